from __future__ import annotations

from typing import Any

import pytest

from openchatkit.errors import StoreUnavailable
from openchatkit.ports import Turn, Verdict
from openchatkit.stores.records import VERSION, turn_from, turn_record

TURN = Turn("s1", 3, "r3", "question", "answer", "stop", 12.5)


def test_a_record_carries_its_version() -> None:
    assert turn_record(TURN)["v"] == VERSION == 1


def test_fields_of_a_newer_release_are_ignored() -> None:
    record: dict[str, Any] = {**turn_record(TURN), "v": VERSION + 1, "mood": {"deep": [1]}}
    record["input_verdict"] = {"label": "casual", "scores": {}, "harm": 0, "why": "new"}
    turn = turn_from("s1", 3, record)
    assert turn.human == "question"
    assert turn.input_verdict == Verdict("casual", {}, 0.0)


def test_fields_that_an_older_release_left_out_have_their_default() -> None:
    needed = ("request_id", "human", "bot", "finish_reason", "created_at")
    record = turn_record(TURN)
    assert turn_from("s1", 3, {name: record[name] for name in needed}) == TURN


@pytest.mark.parametrize(
    "broken",
    [
        {"human": "question"},
        {**turn_record(TURN), "created_at": "canary"},
        {**turn_record(TURN), "citations": ["canary"]},
        {**turn_record(TURN), "input_verdict": {"label": "casual", "scores": 3, "harm": 0}},
    ],
)
def test_a_broken_record_is_unavailable(broken: dict[str, Any]) -> None:
    with pytest.raises(StoreUnavailable) as failure:
        turn_from("s1", 3, broken)
    assert "canary" not in str(failure.value)
