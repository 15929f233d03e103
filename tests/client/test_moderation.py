"""`ock moderation eval` against a live host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.client.conftest import Run
from tests.house import House
from tests.local.live import LiveHost

ROWS = [
    {"text": "fine", "label": "casual"},
    {"text": "bad", "label": "needs caution"},
    {"text": "bad but harmless", "label": "casual"},
    {"text": "fine?", "bot": "a bad reply", "label": "needs caution"},
]


@pytest.fixture(autouse=True)
def _rule(live_house: tuple[House, LiveHost]) -> None:
    live_house[0].moderator.rule = lambda human, bot: "needs caution" if "bad" in (bot or human) else "casual"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def test_figures_as_json(ock: Run, dataset: Path, live_house: tuple[House, LiveHost]) -> None:
    result = ock("moderation", "eval", str(dataset), "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert (figures["texts"], figures["harmful"]) == (4, 2)
    assert figures["auroc"] == 0.75
    assert figures["labels"]["needs caution"] == {
        "support": 2,
        "precision": 0.6667,
        "recall": 1.0,
        "auroc": 0.75,
    }
    assert figures["confusion"]["casual"]["needs caution"] == 1
    assert 0 < figures["latency_s"]["p50"] <= figures["latency_s"]["p95"]
    assert live_house[0].moderator.judged[-1] == ("fine?", "a bad reply")


def test_a_report_for_people_and_its_plot(ock: Run, dataset: Path, tmp_path: Path) -> None:
    plot = tmp_path / "report.svg"
    result = ock("moderation", "eval", str(dataset), "--plot", str(plot))
    assert result.exit_code == 0, result.output
    assert "4 texts, 2 of them harmful" in result.stdout
    assert "Confusion" in result.stdout
    drawn = plot.read_text(encoding="utf-8")
    assert drawn.startswith("<svg")
    assert "threshold" in drawn


def test_a_plot_beside_json(ock: Run, dataset: Path, tmp_path: Path) -> None:
    plot = tmp_path / "report.svg"
    result = ock("moderation", "eval", str(dataset), "--json", "--plot", str(plot))
    assert len(result.stdout.splitlines()) == 1
    assert "Confusion" in plot.read_text(encoding="utf-8")


def test_data_without_labels_of_the_five(ock: Run, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("text,harmful\nfine,false\nbad,true\n", encoding="utf-8")
    figures = json.loads(ock("moderation", "eval", str(path), "--json").stdout)
    assert figures["auroc"] == 1.0
    assert figures["labels"] == figures["confusion"] == {}


@pytest.mark.parametrize("content", [b"", b"canary-44\n", b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_wrong_usage(ock: Run, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    result = ock("moderation", "eval", str(path))
    assert result.exit_code == 2
    assert "canary" not in result.output
