"""A heart that beats only into silence."""

from __future__ import annotations

import asyncio
from typing import Any

from openchatkit.heartbeat import Heart
from openchatkit.wire import Heartbeat

INTERVAL_S = 0.01


async def test_it_beats_into_silence() -> None:
    events: asyncio.Queue[Any] = asyncio.Queue()
    heart = Heart(events, INTERVAL_S)
    async with asyncio.timeout(60):
        assert isinstance(await events.get(), Heartbeat)
        assert isinstance(await events.get(), Heartbeat)
    heart.stop()
    await asyncio.sleep(5 * INTERVAL_S)
    assert events.empty()


async def test_it_does_not_pile_up_before_a_reader_that_is_late() -> None:
    events: asyncio.Queue[Any] = asyncio.Queue()
    heart = Heart(events, INTERVAL_S)
    await asyncio.sleep(20 * INTERVAL_S)
    heart.stop()
    assert events.qsize() == 1


async def test_it_rests_where_something_was_said() -> None:
    events: asyncio.Queue[Any] = asyncio.Queue()
    # Hours between beats: the first one, which finds that something was said, is called by hand.
    heart = Heart(events, 3600)
    heart.rest()
    heart._beat()
    assert events.empty()
    heart._beat()
    heart.stop()
    assert isinstance(events.get_nowait(), Heartbeat)


async def test_without_an_interval_it_never_beats() -> None:
    events: asyncio.Queue[Any] = asyncio.Queue()
    heart = Heart(events, None)
    await asyncio.sleep(5 * INTERVAL_S)
    heart.stop()
    assert events.empty()
