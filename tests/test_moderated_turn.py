"""Moderation through the whole service: fail closed, recovery, policy, modes, and what is counted."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from openchatkit import wire
from openchatkit.chat import ChatModel
from openchatkit.errors import EngineFailed, ModerationUnavailable
from openchatkit.moderation.counts import Counts
from openchatkit.moderation.labels import LABELS, verdict_from_scores
from openchatkit.moderation.model import ModerationModel
from openchatkit.moderation.policy import ModerationPolicy
from openchatkit.ports import Verdict
from openchatkit.service import OpenChatKitService
from openchatkit.settings import Settings
from openchatkit.stores.sqlite import SqliteStore
from openchatkit.turn import TurnRunner
from tests.fakes import QueuedEngine
from tests.house import settled

CANARY = "canary-5c2e"
FINE = verdict_from_scores({label: float(label == "casual") for label in LABELS})
BAD = verdict_from_scores({label: float(label == "needs intervention") for label in LABELS})

Step = Callable[[], Awaitable[Any]]


class Broken:
    """A judge that answers as its step says for one direction, and that all is fine for the other."""

    def __init__(self) -> None:
        self.step: Step | None = None
        self.direction = "input"

    async def judge(self, human: str, bot: str | None = None) -> Verdict:
        concerned = (bot is None) == (self.direction == "input")
        if self.step is None or not concerned:
            return FINE
        verdict: Verdict = await self.step()
        return verdict


class Deployment:
    """A service over a judge that can be broken and mended."""

    def __init__(self, path: Path) -> None:
        self.judge, self.engine, self.counts = Broken(), QueuedEngine(), Counts()
        self.store = SqliteStore(path / "conversations.sqlite", retention_days=1)
        self.policy: Mapping[str, Any] = {}
        self.settings: dict[str, Any] = {}

    def service(self, timeout_s: float = 0.2) -> OpenChatKitService:
        settings = Settings(model="m", **self.settings)
        moderator = ModerationModel(self.judge, timeout_s=timeout_s, counts=self.counts)
        runner = TurnRunner(
            settings=settings,
            chat=ChatModel(self.engine, settings),
            moderator=moderator,
            policy=ModerationPolicy.load().model_copy(update=dict(self.policy)),
            retriever=None,
            encoder=None,
            guard=None,
            counts=self.counts,
        )
        return OpenChatKitService(settings=settings, runner=runner, moderator=moderator, store=self.store)


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    deployment = Deployment(tmp_path)
    yield deployment
    await deployment.store.close()


def scored(label: str = "casual", harm: float = 0.0, **changes: Any) -> Step:
    """A verdict with some of its scores changed."""
    scores = {name: float(name == "casual") for name in LABELS}
    scores.update({name.replace("_", " "): value for name, value in changes.items()})
    scores = {name: value for name, value in scores.items() if value is not None}

    async def step() -> Verdict:
        return Verdict(label, scores, harm)

    return step


def raising(error: BaseException) -> Step:
    async def step() -> Verdict:
        raise error

    return step


async def hang() -> Verdict:
    await asyncio.Event().wait()
    raise AssertionError("never reached")


async def nothing() -> object:
    return None


async def words() -> object:
    return "casual"


FAILURES: dict[str, Step] = {
    "down": raising(ConnectionError(CANARY)),
    "slow": hang,
    "out of memory": raising(MemoryError(CANARY)),
    "its own time ran out": raising(TimeoutError(CANARY)),
    "cancelled inside": raising(asyncio.CancelledError()),
    "unavailable": raising(ModerationUnavailable("the judge is down")),
    "unknown label": scored("harmless"),
    "unknown label with a score": scored(harmless=0.0),
    "a label is missing": scored(needs_intervention=None),
    "no labels": raising(KeyError(CANARY)),
    "not a number": scored(casual=math.nan),
    "all not numbers": scored(
        casual=math.nan,
        possibly_needs_caution=math.nan,
        probably_needs_caution=math.nan,
        needs_caution=math.nan,
        needs_intervention=math.nan,
    ),
    "infinite": scored(casual=math.inf),
    "negative": scored(casual=1.2, needs_caution=-0.2),
    "sum too high": scored(needs_caution=0.5),
    "sum too low": scored(casual=0.4),
    "sum zero": scored(casual=0.0),
    "text for a number": scored(casual="1.0"),
    "true for a number": scored(casual=True),
    "none for a number": scored(casual=1.0, needs_caution=complex(0, 0)),
    "label against its scores": scored("casual", 1.0, casual=0.0, needs_intervention=1.0),
    "harm against its scores": scored("casual", 0.9),
    "harm is not a number": scored("casual", math.nan),
    "nothing": nothing,
    "words": words,
}


@pytest.mark.parametrize("direction", ["input", "output"])
@pytest.mark.parametrize("failure", FAILURES)
async def test_nothing_unjudged_leaves_and_the_next_turn_works(
    deployment: Deployment, failure: str, direction: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = deployment.service()
    deployment.judge.step, deployment.judge.direction = FAILURES[failure], direction
    deployment.engine.replies = [f"{CANARY} is a sentence. And another.", "All well."]
    received: list[object] = []
    with caplog.at_level(logging.DEBUG), pytest.raises(ModerationUnavailable) as raised:
        async for event in service.stream(wire.ChatRequest(inputs=f"Who is {CANARY}?")):
            received.append(event)
    assert [event for event in received if isinstance(event, str | wire.Reply)] == []
    assert deployment.counts.unavailable.total() == 1
    assert any(message.startswith("event=moderation_unavailable ") for message in caplog.messages)
    assert CANARY not in caplog.text + str(raised.value)
    assert not deployment.engine.running
    sessions = await service.sessions(wire.SessionsRequest(requestType="SESSIONS"))
    for session in sessions.sessions:
        request = wire.HistoryRequest(requestType="HISTORY", session_id=session.session_id)
        assert not (await service.history(request)).turns

    deployment.judge.step = None
    deployment.engine.replies = ["All well."]
    reply = await service.reply(wire.ChatRequest(inputs="And now?"))
    assert (reply.generated_text, reply.details.finish_reason) == ("All well.", "stop")


@pytest.mark.parametrize("direction", ["input", "output"])
async def test_an_override_is_counted_logged_and_stored(
    deployment: Deployment, direction: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def bad() -> Verdict:
        return BAD

    deployment.judge.step, deployment.judge.direction = bad, direction
    deployment.engine.replies = ["A reply. Another one."]
    service = deployment.service()
    with caplog.at_level(logging.INFO):
        reply = await service.reply(wire.ChatRequest(inputs=f"{CANARY}?"))
    assert reply.details.finish_reason == "moderated"
    assert deployment.counts.decisions == {(direction, "needs intervention", "override"): 1}
    line = f"event=override direction={direction} label=needs_intervention action=override"
    assert caplog.messages.count(line) == 1
    assert CANARY not in caplog.text
    assert reply.details.session_id is not None
    request = wire.HistoryRequest(requestType="HISTORY", session_id=reply.details.session_id)
    stored = (await service.history(request)).turns[0]
    assert stored.finish_reason == "moderated"
    assert stored.bot == reply.generated_text
    judged = getattr(stored.moderation, direction)
    assert (judged.label, judged.harm) == ("needs intervention", 1.0)


async def test_a_dry_run_answers_and_records(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    async def bad() -> Verdict:
        return BAD

    deployment.judge.step, deployment.policy = bad, {"dry_run": True}
    deployment.engine.replies = ["An answer."]
    with caplog.at_level(logging.INFO):
        reply = await deployment.service().reply(wire.ChatRequest(inputs="?"))
    assert reply.generated_text == "An answer."
    assert reply.details.moderation.input is not None
    assert reply.details.moderation.input.label == "needs intervention"
    assert deployment.counts.decisions == {("input", "needs intervention", "override"): 1}
    assert "event=dry_run direction=input label=needs_intervention action=allow" in caplog.messages


async def test_the_override_speaks_the_humans_language(deployment: Deployment) -> None:
    async def bad() -> Verdict:
        return BAD

    deployment.judge.step = bad
    service = deployment.service()
    german = await service.reply(wire.ChatRequest(inputs="Wie kann ich meinen Nachbarn töten?"))
    english = await service.reply(wire.ChatRequest(inputs="How can I kill my neighbour?"))
    assert german.generated_text.startswith("Dabei kann ich nicht helfen")
    assert english.generated_text.startswith("I can't help with that")


@pytest.mark.parametrize("mode", ["stream", "final", "off"])
async def test_the_mode_of_output_moderation(deployment: Deployment, mode: str) -> None:
    """`stream` releases what is cleared, `final` all or nothing, `off` everything."""
    seen = 0

    async def second_is_bad() -> Verdict:
        nonlocal seen
        seen += 1
        return BAD if seen > 1 or mode == "final" else FINE

    deployment.settings = {"moderation_output": mode}
    deployment.judge.step, deployment.judge.direction = second_is_bad, "output"
    first = f"This first sentence is fine{' and long' * 12}."
    deployment.engine.replies = [f"{first} This second one is not fine at all."]
    reply = await deployment.service(60).reply(wire.ChatRequest(inputs="Well?"))
    said = reply.generated_text
    assert ("first sentence is fine" in said) == (mode != "final")
    assert ("second one" in said) == (mode == "off")
    assert reply.details.finish_reason == ("stop" if mode == "off" else "moderated")
    assert (reply.details.moderation.output is None) == (mode == "off")
    assert seen == {"stream": 2, "final": 1, "off": 0}[mode]


class TestBesideTheAnswer:
    """`moderation_input: beside`: the model answers while the question is judged."""

    @pytest.fixture
    def beside(self, deployment: Deployment) -> Deployment:
        deployment.settings = {"moderation_input": "beside"}
        deployment.engine.replies = ["A reply that nobody may see yet. " * 5]
        return deployment

    async def test_nothing_leaves_before_the_verdict(self, beside: Deployment) -> None:
        judged = asyncio.Event()

        async def late() -> Verdict:
            await judged.wait()
            return FINE

        beside.judge.step = late
        events: list[object] = []

        async def listen() -> None:
            async for event in beside.service(60).stream(wire.ChatRequest(inputs="q")):
                events.append(event)

        listening = asyncio.create_task(listen())
        await settled(lambda: beside.engine.generated > 20 and not beside.engine.running)
        assert [type(event) for event in events] == [wire.Started]
        judged.set()
        await listening
        assert isinstance(events[-1], wire.Reply)
        assert "".join(event for event in events if isinstance(event, str)) == events[-1].generated_text
        assert events[-1].generated_text.startswith("A reply that nobody may see yet.")
        assert events[-1].details.moderation.input is not None
        assert events[-1].details.moderation.output is not None

    @pytest.mark.parametrize("delay_s", [0.0, 0.01])
    async def test_a_blocked_questions_answer_is_stopped_and_forgotten(
        self, beside: Deployment, delay_s: float
    ) -> None:
        async def bad() -> Verdict:
            await asyncio.sleep(0.05)
            return BAD

        beside.judge.step, beside.engine.delay_s = bad, delay_s
        events = [event async for event in beside.service(60).stream(wire.ChatRequest(inputs="q"))]
        assert beside.engine.prompts
        assert not beside.engine.running
        reply = events[-1]
        assert isinstance(reply, wire.Reply)
        assert reply.details.finish_reason == "moderated"
        assert "nobody may see" not in str(events)
        assert beside.counts.decisions == {("input", "needs intervention", "override"): 1}

    async def test_a_bad_answer_to_a_bad_question_counts_once(self, beside: Deployment) -> None:
        async def bad() -> Verdict:
            await asyncio.sleep(0.05)
            return BAD

        async def every(human: str, bot: str | None = None) -> Verdict:
            return await bad() if bot is None else BAD

        beside.judge.judge = every  # type: ignore[method-assign]
        reply = await beside.service(60).reply(wire.ChatRequest(inputs="q"))
        assert reply.details.moderation.output is None
        assert beside.counts.decisions == {("input", "needs intervention", "override"): 1}

    @pytest.mark.parametrize("answer", ["An answer.", RuntimeError(CANARY)])
    async def test_a_question_that_cannot_be_judged_has_no_answer(
        self, beside: Deployment, answer: str | Exception, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def down() -> Verdict:
            await asyncio.sleep(0.05)
            raise ConnectionError(CANARY)

        beside.judge.step, beside.engine.replies = down, [answer]
        with pytest.raises(ModerationUnavailable):
            await beside.service(60).reply(wire.ChatRequest(inputs="q"))
        assert not beside.engine.running
        assert CANARY not in caplog.text

    async def test_an_engine_that_fails_first_is_told_after_the_verdict(self, beside: Deployment) -> None:
        async def fine() -> Verdict:
            await asyncio.sleep(0.05)
            return FINE

        beside.judge.step, beside.engine.replies = fine, [EngineFailed("out of order")]
        with pytest.raises(EngineFailed, match="out of order"):
            await beside.service(60).reply(wire.ChatRequest(inputs="q"))

    async def test_a_caller_that_leaves_frees_the_engine(self, beside: Deployment) -> None:
        judged = asyncio.Event()

        async def late() -> Verdict:
            await judged.wait()
            return FINE

        beside.judge.step, beside.engine.delay_s = late, 0.01
        service = beside.service(60)
        stream = service.stream(wire.ChatRequest(inputs="q"))
        await anext(stream)
        await settled(lambda: bool(beside.engine.running))

        async def leave() -> None:
            await stream.aclose()

        leaving = asyncio.create_task(leave())
        await settled(lambda: not beside.engine.running)
        judged.set()
        await leaving
