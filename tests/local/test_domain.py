"""`ock domain calibrate`, with the real encoder and the sample library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from local.domain import domain

TESTS = Path(__file__).parents[1]


def read_lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (TESTS / name).read_text(encoding="utf-8").splitlines()]


IN = [row["question"] for row in read_lines("library/questions.jsonl") if row["kind"] == "fact"]
"""Finance questions that the sample library answers."""
OUT = [
    row["text"]
    for row in read_lines("moderation/unseen.jsonl")
    if row["topic"] == "small_talk" and row["language"] == "en" and row["text"].endswith("?")
]
"""General questions, some courtesies among them."""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(domain, ["calibrate", *map(str, arguments)])


@pytest.fixture
def lists(tmp_path: Path) -> tuple[Path, Path]:
    inside, outside = tmp_path / "in.txt", tmp_path / "out.txt"
    inside.write_text("\n".join(IN), encoding="utf-8")
    outside.write_text("\n\n".join(OUT), encoding="utf-8")
    return inside, outside


def test_it_fits_the_threshold_to_the_sample_library(lists: tuple[Path, Path]) -> None:
    result = run(*lists, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert len(IN) > 100
    assert len(OUT) > 40
    assert found["auroc"] >= 0.95
    assert found["kept"] >= 0.9
    assert found["refused"] >= 0.9
    assert 0.1 < found["threshold"] < 0.9


def test_it_prints_the_trade_off(lists: tuple[Path, Path]) -> None:
    result = run(*lists, "--description", "What was the revenue of the company?\nWho is its chief executive?")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("domain_threshold: 0.")
    assert "OUT overridden" in result.output
    assert "100.0%" in result.output


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\x00"])
def test_a_list_without_questions_is_wrong_usage(lists: tuple[Path, Path], content: bytes) -> None:
    lists[1].write_bytes(content)
    result = run(*lists)
    assert result.exit_code == 2
    assert "out.txt" in result.output


def test_courtesies_alone_are_no_list(lists: tuple[Path, Path]) -> None:
    lists[1].write_text("Hello!\nThank you very much.\n", encoding="utf-8")
    result = run(*lists, "--description", "What was the revenue?")
    assert result.exit_code == 1
    assert "no courtesy" in result.output


def test_an_empty_description_is_refused(lists: tuple[Path, Path]) -> None:
    result = run(*lists, "--description", " ")
    assert result.exit_code == 1
    assert "empty" in result.output
