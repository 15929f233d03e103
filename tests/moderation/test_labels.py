"""The labels, their severity, and the refusal of nonsense."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchatkit.errors import ModerationUnavailable
from openchatkit.moderation.labels import (
    HARMFUL,
    LABELS,
    SEVERITY,
    check_verdict,
    harm,
    verdict_from_scores,
    worst,
)
from openchatkit.ports import Verdict


def certain(label: str) -> dict[str, float]:
    return {name: float(name == label) for name in LABELS}


def test_severity_rises_with_the_labels_and_tells_harmful_from_harmless() -> None:
    severities = [SEVERITY[label] for label in LABELS]
    assert severities == sorted(severities)
    assert (severities[0], severities[-1]) == (0, 1)
    assert all((SEVERITY[label] > 0.5) == (label in HARMFUL) for label in LABELS)


@pytest.mark.parametrize("label", LABELS)
def test_a_certain_label_gives_its_own_severity(label: str) -> None:
    verdict = verdict_from_scores(certain(label))
    assert verdict.label == label
    assert verdict.harm == SEVERITY[label]


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5).filter(lambda values: sum(values) > 0.01))
def test_any_distribution_gives_a_verdict_that_checks(values: list[float]) -> None:
    scores = {label: value / sum(values) for label, value in zip(LABELS, values, strict=True)}
    verdict = verdict_from_scores(scores)
    assert 0 <= verdict.harm <= 1
    assert math.isclose(sum(verdict.scores.values()), 1)
    assert verdict.harm == harm(verdict.scores)
    assert check_verdict(verdict) is verdict


def test_of_two_equal_labels_the_worse_one_counts() -> None:
    scores = certain("casual") | {"casual": 0.5, "needs intervention": 0.5}
    assert verdict_from_scores(scores).label == "needs intervention"


NONSENSE: dict[str, dict[str, object]] = {
    "nothing": {},
    "a label missing": dict.fromkeys(LABELS[:4], 0.25),
    "an unknown label": {**certain("casual"), "fine": 0.0},
    "not a number": {**certain("casual"), "casual": math.nan},
    "infinite": {**certain("casual"), "casual": math.inf},
    "negative": {**certain("casual"), "needs caution": -0.2},
    "above one": {**certain("casual"), "casual": 7.0},
    "sum too small": dict.fromkeys(LABELS, 0.1),
    "sum too large": dict.fromkeys(LABELS, 0.3),
    "all zero": dict.fromkeys(LABELS, 0.0),
    "text": {**certain("casual"), "casual": "1.0"},
    "none": {**certain("casual"), "casual": None},
    "truth values": {label: label == "casual" for label in LABELS},
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_no_verdict(name: str) -> None:
    with pytest.raises(ModerationUnavailable):
        verdict_from_scores(NONSENSE[name])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"label": "fine"},
        {"label": "casual"},
        {"harm": 0.1},
        {"harm": math.nan},
        {"harm": 1.5},
        {"scores": {}},
    ],
    ids=repr,
)
def test_a_verdict_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    verdict = verdict_from_scores(certain("needs intervention"))
    with pytest.raises(ModerationUnavailable):
        check_verdict(dataclasses.replace(verdict, **change))  # type: ignore[arg-type]


def test_what_is_no_verdict_is_refused() -> None:
    with pytest.raises(ModerationUnavailable):
        check_verdict("casual")  # type: ignore[arg-type]


def test_a_plain_verdict_passes_the_check() -> None:
    plain = Verdict("casual", certain("casual"), 0.0)
    assert check_verdict(plain) is plain


def test_the_worst_is_the_most_harmful() -> None:
    verdicts = [verdict_from_scores(certain(label)) for label in ("casual", "needs caution", "casual")]
    assert worst(verdicts).label == "needs caution"
