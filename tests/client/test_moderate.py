"""`ock moderate` against a live host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.commands.moderate import MAX_CHARACTERS, batches
from tests.client.conftest import Run
from tests.house import House
from tests.local.live import LiveHost


@pytest.fixture(autouse=True)
def _rule(live_house: tuple[House, LiveHost]) -> None:
    live_house[0].moderator.rule = lambda human, bot: "needs caution" if "bad" in human else "casual"


def test_a_line_of_json_a_text(ock: Run) -> None:
    result = ock("moderate", "fine", "bad", "--json")
    verdicts = [json.loads(line) for line in result.stdout.splitlines()]
    assert [verdict["label"] for verdict in verdicts] == ["casual", "needs caution"]
    assert all(set(verdict) == {"label", "scores", "harm"} for verdict in verdicts)
    assert len(verdicts[0]["scores"]) == 5


def test_a_table_for_people(ock: Run) -> None:
    lines = ock("moderate", "fine", "bad\x9b2J\nsecond line").stdout.splitlines()
    assert lines[0].split() == ["casual", "0.00", "fine"]
    assert lines[1].startswith("needs caution")
    assert lines[1].endswith("bad�2J second line")


def test_a_file_of_lines(ock: Run, tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("fine\n\nbad\n" * 50, encoding="utf-8")
    lines = ock("moderate", "--json", "--file", str(path)).stdout.splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["casual", "needs caution"] * 50


def test_long_texts_go_in_several_requests(
    ock: Run, tmp_path: Path, live_house: tuple[House, LiveHost]
) -> None:
    path = tmp_path / "texts.txt"
    texts = [f"{number} {'word ' * 3_000}bad" for number in range(20)]
    path.write_text("\n".join(texts), encoding="utf-8")
    assert [len(batch) for batch in batches(texts)] == [6, 6, 6, 2]
    lines = ock("moderate", "--json", "--file", str(path)).stdout.splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["needs caution"] * 20
    assert [human for human, _ in live_house[0].moderator.judged] == texts


def test_batches_hold_every_text_once() -> None:
    texts = [str(number) for number in range(130)] + ["x" * 2 * MAX_CHARACTERS, "y"]
    found = list(batches(texts))
    assert [text for batch in found for text in batch] == texts
    assert [len(batch) for batch in found] == [64, 64, 2, 1, 1]


def test_a_line_of_a_file_ends_at_a_line_feed_only(ock: Run, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "one\u2028bad"}\n', encoding="utf-8")
    lines = ock("moderate", "--json", "--file", str(path)).stdout.splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["needs caution"]


def test_a_file_of_objects(ock: Run, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "two\\nlines, bad", "id": 1}\n', encoding="utf-8")
    assert json.loads(ock("moderate", "--json", "--file", str(path)).stdout)["label"] == "needs caution"


def test_standard_input(ock: Run) -> None:
    assert (
        json.loads(ock("moderate", "--json", "--file", "-", stdin="bad\n").stdout)["label"] == "needs caution"
    )


@pytest.mark.parametrize("content", [b"{}\n", b'{"text": 1}\n', b"[]\n", b"not json\n", b"\xff\xfe\n"])
def test_a_file_that_holds_no_texts_is_wrong_usage(ock: Run, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_bytes(content)
    assert ock("moderate", "--file", str(path)).exit_code == 2


def test_no_text_is_wrong_usage(ock: Run) -> None:
    assert ock("moderate").exit_code == 2


def test_a_text_that_cannot_be_judged(ock: Run) -> None:
    result = ock("moderate", "bad\x00")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: invalid_request: inputs")
