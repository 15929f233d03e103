"""Fail closed: whatever the inner moderator does, a checked verdict or one known error comes out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import pytest

from openchatkit.errors import EngineFailed, ModerationUnavailable
from openchatkit.moderation.labels import LABELS, verdict_from_scores
from openchatkit.moderation.model import ModerationModel
from openchatkit.ports import Verdict

CANARY = "canary-91ab"
FINE = verdict_from_scores({label: float(label == "casual") for label in LABELS})


class Scripted:
    """A moderator that behaves as told, one step a call, and fails loudly when called too often."""

    def __init__(self, *steps: Callable[[str], Awaitable[Verdict]]) -> None:
        self._steps = list(steps)

    async def judge(self, human: str, bot: str | None = None) -> Verdict:
        return await self._steps.pop(0)(human)


async def fine(text: str) -> Verdict:
    return FINE


async def fails(text: str) -> Verdict:
    raise RuntimeError(f"cannot handle {text}")


async def out_of_memory(text: str) -> Verdict:
    raise MemoryError(text)


async def engine_fails(text: str) -> Verdict:
    raise EngineFailed(f"the model failed at {text}")


async def a_group_fails(text: str) -> Verdict:
    raise ExceptionGroup(text, [ValueError(text)])


async def breaks_off(text: str) -> Verdict:
    raise asyncio.CancelledError(text)


async def answers_nothing(text: str) -> Verdict:
    return None  # type: ignore[return-value]


async def answers_an_unknown_label(text: str) -> Verdict:
    return Verdict(text, FINE.scores, 0.0)


async def answers_no_numbers(text: str) -> Verdict:
    return Verdict("casual", dict.fromkeys(LABELS, float("nan")), 0.0)


async def answers_no_mapping(text: str) -> Verdict:
    return Verdict("casual", text, 0.0)  # type: ignore[arg-type]


async def hangs(text: str) -> Verdict:
    await asyncio.Event().wait()
    raise AssertionError("never reached")


async def cannot_be_stopped(text: str) -> Verdict:
    for _ in range(50):
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            continue
    raise RuntimeError(text)


BROKEN = [
    fails,
    out_of_memory,
    engine_fails,
    a_group_fails,
    breaks_off,
    answers_nothing,
    answers_an_unknown_label,
    answers_no_numbers,
    answers_no_mapping,
    hangs,
    cannot_be_stopped,
]


@pytest.mark.parametrize("step", BROKEN, ids=lambda step: step.__name__)
async def test_every_failure_is_one_error_without_foreign_text(
    step: Callable[[str], Awaitable[Verdict]], caplog: pytest.LogCaptureFixture
) -> None:
    moderator = ModerationModel(Scripted(step, fine), timeout_s=0.05)
    began = time.monotonic()
    with caplog.at_level(logging.DEBUG), pytest.raises(ModerationUnavailable) as raised:
        await moderator.judge(CANARY)
    assert time.monotonic() - began < 0.4
    assert CANARY not in str(raised.value)
    assert raised.value.__cause__ is None
    assert await moderator.judge("the next one") is FINE, "recovery needs nobody"
    await asyncio.sleep(0.7 if step is cannot_be_stopped else 0)
    assert CANARY not in caplog.text


async def test_a_good_verdict_passes_as_it_is() -> None:
    assert await ModerationModel(Scripted(fine), timeout_s=1).judge("hello", "hi") is FINE


async def test_its_own_error_passes_with_its_message() -> None:
    async def unavailable(text: str) -> Verdict:
        raise ModerationUnavailable("the moderation endpoint is starting")

    with pytest.raises(ModerationUnavailable, match="is starting"):
        await ModerationModel(Scripted(unavailable), timeout_s=1).judge("hello")


async def test_a_caller_that_is_cancelled_stops_the_judge() -> None:
    stopped = asyncio.Event()

    async def waits(text: str) -> Verdict:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        raise AssertionError("never reached")

    task = asyncio.create_task(ModerationModel(Scripted(waits), timeout_s=5).judge("hello"))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(stopped.wait(), 1)
