"""Judgements that go in rounds, beside a chat model on the same device."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from openchatkit.moderation import rounds as rounds_module
from openchatkit.moderation.rounds import LONGEST_PAUSE_S, Rounds


class Device:
    """Computes for so long and remembers who was there at the same time."""

    def __init__(self, seconds: float = 0.02) -> None:
        self.seconds = seconds
        self.batches: list[set[str]] = []
        self.spans: list[tuple[float, float]] = []
        self._present: set[str] = set()

    async def compute(self, name: str) -> None:
        if not self._present:
            self.batches.append(set())
        self._present.add(name)
        self.batches[-1].add(name)
        began = time.monotonic()
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.spans.append((began, time.monotonic()))
            self._present.discard(name)


def judging(gate: Rounds, device: Device) -> Callable[[str], Coroutine[Any, Any, None]]:
    async def judge(name: str) -> None:
        async with gate.place():
            await device.compute(name)

    return judge


async def test_one_alone_goes_at_once() -> None:
    judge = judging(Rounds(0.1), Device(0.0))
    began = time.monotonic()
    await judge("a")
    assert time.monotonic() - began < 0.05


async def test_who_comes_together_goes_together() -> None:
    device = Device()
    judge = judging(Rounds(0.5), device)
    await asyncio.gather(*(judge(name) for name in "abc"))
    assert device.batches == [{"a", "b", "c"}]


async def test_who_comes_during_a_round_waits_for_the_next_together() -> None:
    device = Device()
    judge = judging(Rounds(0.5), device)
    first = asyncio.create_task(judge("a"))
    await asyncio.sleep(device.seconds / 4)
    await asyncio.gather(*(judge(name) for name in "bcd"))
    await first
    assert device.batches == [{"a"}, {"b", "c", "d"}]


async def test_between_rounds_the_device_is_left_alone_for_the_other_share() -> None:
    device = Device(0.01)
    judge = judging(Rounds(0.25), device)

    async def client(name: str) -> None:
        for number in range(6):
            await judge(f"{name}{number}")

    began = time.monotonic()
    await asyncio.gather(client("a"), client("b"))
    wall = time.monotonic() - began
    starts = {round(start, 3) for start, _ in device.spans}
    busy = sum(max(e for s, e in device.spans if round(s, 3) == start) - start for start in starts)
    assert busy / wall < 0.4  # a quarter, and what a loaded machine's clock adds
    assert len(device.batches) <= 7


async def test_who_comes_after_a_round_that_nobody_waited_for_goes_at_once() -> None:
    judge = judging(Rounds(0.01), Device(0.05))
    await judge("a")
    began = time.monotonic()
    await judge("b")
    assert time.monotonic() - began < LONGEST_PAUSE_S


async def test_a_crowd_does_not_pause_for_the_few_before_it() -> None:
    device = Device(0.05)
    judge = judging(Rounds(0.01), device)
    first = asyncio.create_task(judge("a"))
    await asyncio.sleep(0.01)
    began = time.monotonic()
    await asyncio.gather(*(judge(name) for name in "bcd"))
    await first
    assert time.monotonic() - began < 2 * device.seconds + LONGEST_PAUSE_S / 2
    assert device.batches == [{"a"}, {"b", "c", "d"}]


async def test_a_pause_is_bounded() -> None:
    judge = judging(Rounds(0.01), Device(0.05))
    first = asyncio.create_task(judge("a"))
    await asyncio.sleep(0.01)
    began = time.monotonic()
    await judge("b")
    await first
    assert LONGEST_PAUSE_S < time.monotonic() - began < LONGEST_PAUSE_S + 0.1 + 0.3


async def test_one_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds_module, "LONGEST_ROUND_S", 0.05)
    gate = Rounds(0.5)
    hanging = asyncio.create_task(judging(gate, Device(60))("a"))
    await asyncio.sleep(0.01)
    await asyncio.wait_for(judging(gate, Device(0.0))("b"), 2)
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    await asyncio.wait_for(judging(gate, Device(0.0))("c"), 2)


async def test_one_that_is_cancelled_while_it_waits_leaves_the_gate_free() -> None:
    device = Device()
    judge = judging(Rounds(0.5), device)
    first = asyncio.create_task(judge("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting = asyncio.create_task(judge("b"))
    await asyncio.sleep(device.seconds / 4)
    waiting.cancel()
    await first
    await asyncio.wait_for(judge("c"), 2)
    assert "b" not in set().union(*device.batches)


async def test_one_that_is_cancelled_as_the_gate_opens_ends_its_round() -> None:
    gate = Rounds(1.0)
    entered = asyncio.create_task(judging(gate, Device(60))("a"))
    while gate._waiting or gate._keeper is None:  # until the gate has just let it in
        await asyncio.sleep(0)
    entered.cancel()
    began = time.monotonic()
    await asyncio.wait_for(judging(gate, Device(0.0))("b"), 2)
    assert time.monotonic() - began < rounds_module.LONGEST_ROUND_S / 2


async def test_an_error_in_a_round_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Rounds(0.5)

    async def fail() -> None:
        async with gate.place():
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await fail()
    await asyncio.wait_for(judging(gate, Device(0.0))("a"), 2)


@pytest.mark.parametrize("share", [0, -0.1, 1.1])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        Rounds(share)
