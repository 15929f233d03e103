"""Combinations of settings that cover every pair of choices that change a template."""

import itertools
from collections.abc import Mapping, Sequence

from tests.stacks.synthesis import IMAGE

Choice = Mapping[str, object]

FACTORS: Mapping[str, Mapping[str, Choice]] = {
    "image": {"uri": {"image": IMAGE}, "asset": {"image": "asset"}, "codebuild": {"image": "codebuild"}},
    "vpc": {
        "off": {"vpc": "off"},
        "create": {"vpc": "create"},
        "given": {"vpc": "vpc-0123abcd", "vpc_subnets": "subnet-0000000a,subnet-0000000b"},
    },
    "placement": {"variants": {"placement": "variants"}, "colocated": {"placement": "colocated"}},
    "weights": {
        "deploy": {"weights": "deploy", "hub_token_secret": "hub-token"},
        "staged": {"weights": "staged", "empty_on_destroy": "false"},
    },
    "scale": {
        "fixed": {},
        "scaled": {"chat_instances_max": 4, "update_policy": "canary"}
        | {"schedule_up": "cron(0 7 ? * MON-FRI *)", "schedule_down": "cron(0 19 ? * MON-FRI *)"},
    },
    "removal": {
        "destroy": {"removal": "destroy", "alarm_email": "on-call@example.com"},
        "retain": {"removal": "retain"},
    },
}


def pairs(rows: Sequence[Mapping[str, str]]) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    """Return the pairs of choices that occur together in a row."""
    return {pair for row in rows for pair in itertools.combinations(sorted(row.items()), 2)}


def all_rows() -> list[dict[str, str]]:
    """Return every combination."""
    return [
        dict(zip(FACTORS, row, strict=True))
        for row in itertools.product(*(FACTORS[name] for name in FACTORS))
    ]


def pairwise() -> list[dict[str, str]]:
    """Return few rows in which every pair occurs: always the row that adds the most new ones."""
    candidates = all_rows()
    missing, rows = pairs(candidates), []
    while missing:
        best = max(candidates, key=lambda row: len(pairs([row]) & missing))
        rows.append(best)
        missing -= pairs([best])
    return rows


def context(row: Mapping[str, str]) -> dict[str, object]:
    """Return the settings of a row."""
    return {key: value for factor, choice in row.items() for key, value in FACTORS[factor][choice].items()}
