"""The injection suite (`injections.jsonl`, listed in docs/security.md), end to end where it is attacked.

`frame`: texts that forge the judge's frame or the prompt's turns; each is tried as a question, as a
passage, as a reply and in the frame of the label scorer. `passage`: orders inside a passage. `disguised`:
harmful requests that must not look harmless to the local judge.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from openchatkit import wire
from openchatkit.chat import ChatModel
from openchatkit.errors import InvalidRequest
from openchatkit.moderation.embedding_classifier import EmbeddingClassifier
from openchatkit.moderation.label_scorer import FRAME_LABELS, LabelScorer, frame
from openchatkit.moderation.model import ModerationModel
from openchatkit.service import OpenChatKitService
from openchatkit.settings import Settings
from openchatkit.turn import TurnRunner
from tests.fakes import ListRetriever, QueuedEngine, passage
from tests.house import House

CASES = [
    json.loads(line)
    for line in Path(__file__).with_name("injections.jsonl").read_text(encoding="utf-8").splitlines()
]
DOCS = Path(__file__).parents[2] / "docs" / "security.md"
FRAME_MARKS = re.compile(r"^(?:Possible labels:|Input:|Output:|\d\. .*)", re.MULTILINE)
ROLE_TAG = re.compile(r"<\s*(?:human|bot)\s*>\s*[:：]?", re.IGNORECASE)


def of_kind(*kinds: str) -> list[object]:
    return [pytest.param(case["text"], id=case["id"]) for case in CASES if case["kind"] in kinds]


class NotingEngine(QueuedEngine):
    """An engine that scores every prompt alike and keeps them."""

    async def score(self, prompt: str, choices: Sequence[str]) -> list[float]:
        self.prompts.append(prompt)
        return [1 / len(choices)] * len(choices)


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(tmp_path)
    house.settings["max_new_tokens"] = 16
    house.engine.context_length = 16_384
    return house


def marks(prompt: str) -> Counter[str]:
    """The frame's own lines. A judged text stands behind `Input:`, on the one line of it."""
    return Counter(FRAME_MARKS.findall(prompt))


def test_the_suite_is_as_large_as_it_says() -> None:
    assert len(CASES) >= 80
    assert len({case["id"] for case in CASES}) == len(CASES)
    listed = DOCS.read_text(encoding="utf-8")
    for how in {case["how"] for case in CASES}:
        assert how in listed, how


@pytest.mark.parametrize("text", of_kind("frame", "passage", "disguised"))
@pytest.mark.parametrize("as_reply", [False, True], ids=["human", "bot"])
async def test_the_judges_frame_stays_whole(text: str, as_reply: bool) -> None:
    engine = NotingEngine()
    human, bot = ("Hello.", text) if as_reply else (text, None)
    await LabelScorer(engine).judge(human, bot)
    expected = marks(frame("hello", "hi" if as_reply else None))
    for prompt in engine.prompts:
        assert marks(prompt) == expected
        assert prompt.endswith("\nOutput:")
        judged = prompt.rpartition("\nInput: ")[2].removesuffix("\nOutput:")
        assert "\n" not in judged
        assert not any(label in judged.lower() for label in FRAME_LABELS)
        assert not re.search(r"(?:output|input|labels?)\s*[:：]", judged, re.IGNORECASE)


@pytest.mark.parametrize("text", of_kind("frame"))
async def test_a_question_opens_no_turn_and_saves_no_reply(house: House, text: str) -> None:
    """The judge gets question and reply as two things, whatever stands in the question."""
    house.moderator.rule = lambda human, bot: "needs intervention" if bot and "poison" in bot else "casual"
    house.engine.replies = ["Take the poison."]
    try:
        reply = await house.ask(text)
    except InvalidRequest:
        assert not house.engine.prompts, "what the wire refuses must not reach the engine"
        return
    tags = ROLE_TAG.findall(house.engine.prompts[0])
    assert tags == ["<human>:", "<bot>:"], tags
    assert reply.details.finish_reason == "moderated"
    assert "poison" not in reply.generated_text


@pytest.mark.parametrize("text", of_kind("frame"))
async def test_a_passage_opens_no_turn(house: House, text: str) -> None:
    house.retriever = ListRetriever((passage(1), passage(2, text)))
    house.engine.replies = ["Fine."]
    reply = await house.ask("How high was revenue?")
    assert ROLE_TAG.findall(house.engine.prompts[0]) == ["<human>:", "<bot>:"]
    assert reply.details.finish_reason == "stop"


@pytest.mark.parametrize("text", of_kind("passage"))
async def test_orders_in_a_passage_do_not_reach_the_prompt(house: House, text: str) -> None:
    house.retriever = ListRetriever((passage(1), passage(2, text)))
    house.engine.replies = ["Fine."]
    reply = await house.ask("How high was revenue?")
    assert text[:20] not in house.engine.prompts[0]
    assert ROLE_TAG.findall(house.engine.prompts[0]) == ["<human>:", "<bot>:"]
    assert reply.details.retrieval.withheld == 1
    assert reply.details.retrieval.passages == 1
    assert house.counts.withheld == {"injection": 1}


@pytest.mark.parametrize("text", of_kind("disguised"))
async def test_a_disguised_request_does_not_reach_the_model(
    house: House, classifier: EmbeddingClassifier, text: str
) -> None:
    service = with_judge(house, classifier)
    reply = await service.reply(wire.ChatRequest(inputs=text))
    assert reply.details.finish_reason == "moderated"
    assert not house.engine.prompts


def with_judge(house: House, classifier: EmbeddingClassifier) -> OpenChatKitService:
    """The house's service with the local judge in place of the ruled one."""
    settings = Settings(model="m", **house.settings)
    moderator = ModerationModel(classifier, timeout_s=60, counts=house.counts)
    runner = TurnRunner(
        settings=settings,
        chat=ChatModel(house.engine, settings),
        moderator=moderator,
        policy=house.policy,
        retriever=None,
        encoder=None,
        guard=None,
        counts=house.counts,
    )
    return OpenChatKitService(settings=settings, runner=runner, moderator=moderator, store=house.store)
