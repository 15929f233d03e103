"""The reply's text as it is cleaned, and the prompt as the model gets it."""

from __future__ import annotations

import datetime
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchatkit.chat import ChatModel, CitationFilter
from openchatkit.errors import InvalidRequest
from openchatkit.settings import Settings
from openchatkit.wire import Parameters
from tests.fakes import QueuedEngine, passage


def clean(pieces: list[str], passages: int = 2) -> str:
    citations = CitationFilter(passages)
    return "".join([citations.push(piece) for piece in pieces] + [citations.finish()])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" A fact. [1]", "A fact. [1]"),
        ("A fact. [3] And more [1].", "A fact. And more [1]."),
        ("A [1, 3] b [2,1]", "A [1] b [2,1]"),
        ("A [0] b [12345678901234567890123456]", "A b [12345678901234567890123456]"),
        ("  \n  spaces \n ", "spaces"),
        ("list[1] and x[7]", "list[1] and x"),
        ("ends in [", "ends in ["),
        ("ends in [1", "ends in [1"),
        ("", ""),
    ],
)
def test_citations_of_missing_passages_are_dropped(text: str, expected: str) -> None:
    assert clean([text]) == expected
    assert clean(list(text)) == expected


@given(st.text(alphabet="ab [],123\n.", max_size=60), st.data())
def test_chunking_never_matters(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=10)) | {0, len(text)})
    pieces = [text[a:b] for a, b in itertools.pairwise(cuts)]
    assert clean(pieces) == clean([text])


def test_plain_text_is_released_at_once() -> None:
    citations = CitationFilter(1)
    assert citations.push("Hello") == "Hello"
    assert citations.push(" world") == " world"
    assert citations.push(" [") == ""
    assert citations.push("1]") == " [1]"


def chat(engine: QueuedEngine, **settings: Any) -> ChatModel:
    return ChatModel(engine, Settings(model="m", **settings), today=lambda: datetime.date(2026, 11, 22))


async def text_of(model: ChatModel, question: str = "q", **asked: Any) -> str:
    draft = model.draft(
        question,
        history=[],
        passages=[passage(1), passage(2)],
        parameters=model.sampling_parameters(Parameters(**asked)),
        request_id="r",
    )
    return "".join([chunk.text async for chunk in draft.chunks])


async def test_draft_cleans_and_knows_its_citations() -> None:
    engine = QueuedEngine(["Revenue was 4.1 billion. [1] [9]"])
    model = chat(engine)
    draft = model.draft(
        "q",
        history=[],
        passages=[passage(1), passage(2)],
        parameters=model.sampling_parameters(Parameters()),
        request_id="r",
    )
    text = "".join([chunk.text async for chunk in draft.chunks])
    assert text == "Revenue was 4.1 billion. [1]"
    assert [number for number, _ in draft.cited_in(text)] == [1]
    assert engine.prompts[0].startswith("Today is 22 November 2026. ")
    assert engine.prompts[0].endswith("<human>: q\n<bot>:")


def test_parameters_come_from_the_request_then_the_settings() -> None:
    model = chat(QueuedEngine(), temperature=0.3, top_k=7, max_new_tokens=99)
    given_ = model.sampling_parameters(Parameters(temperature=0.0, stop=["END"], seed=3))
    assert (given_.temperature, given_.top_k, given_.max_new_tokens) == (0.0, 7, 99)
    assert given_.stop == ("<human>:", "<bot>:", "\nPassages:\n[1] ", "END")
    assert given_.seed == 3
    assert model.sampling_parameters(Parameters(do_sample=False)).temperature == 0.0


async def test_what_does_not_fit_the_context_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match=r"^inputs: "):
        await text_of(chat(QueuedEngine(context_length=64)), "word " * 100, max_new_tokens=16)
    with pytest.raises(InvalidRequest, match=r"^parameters.max_new_tokens: .*64"):
        await text_of(chat(QueuedEngine(context_length=64)), max_new_tokens=64)


async def test_turns_without_a_reply_are_left_out() -> None:
    engine = QueuedEngine(["x"])
    model = chat(engine)

    class Said:
        def __init__(self, human: str, bot: str, number: int) -> None:
            self.human, self.bot, self.number = human, bot, number

    draft = model.draft(
        "q",
        history=[Said("stopped", "", 1), Said("kept", "yes", 2)],
        passages=[],
        parameters=model.sampling_parameters(Parameters()),
        request_id="r",
    )
    _ = [chunk async for chunk in draft.chunks]
    assert "stopped" not in engine.prompts[0]
    assert "kept" in engine.prompts[0]
