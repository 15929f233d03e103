from __future__ import annotations

import pytest

from openchatkit.engines.reply import FinishReason, ReplyAssembler
from openchatkit.ports import Chunk


def test_text_that_may_begin_a_stop_word_waits_with_its_tokens() -> None:
    reply = ReplyAssembler(["<human>"])
    assert reply.push("Yes", 1) == Chunk("Yes", 1)
    assert reply.push(".<hu", 2) == Chunk(".", 2)
    assert reply.push("m", 1) is None
    assert reply.push("bug>", 1) == Chunk("<humbug>", 2)


def test_tokens_without_text_are_reported_with_the_next_chunk() -> None:
    reply = ReplyAssembler([])
    assert reply.push("", 1) is None
    assert reply.push("é", 1) == Chunk("é", 2)


def test_a_stop_word_comes_before_the_models_own_end() -> None:
    reply = ReplyAssembler(["<human>"])
    assert reply.push("Yes<human>: No", 5, "length") == Chunk("Yes", 5, "stop")


@pytest.mark.parametrize(("ended", "shown"), [("stop", "Yes<hu"), ("length", "Yes"), ("cancelled", "Yes")])
def test_only_a_complete_text_shows_what_was_held_back(ended: FinishReason, shown: str) -> None:
    reply = ReplyAssembler(["<human>"])
    assert reply.push("Yes<hu", 3, ended) == Chunk(shown, 3, ended)


def test_a_cancelled_reply_may_have_nothing_at_all() -> None:
    assert ReplyAssembler(["x"]).push("", 0, "cancelled") == Chunk("", 0, "cancelled")
