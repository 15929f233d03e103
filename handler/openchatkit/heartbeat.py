"""Heartbeats in a stream that has nothing to say: moderation, retrieval or prefill take their time.

A timer per stream, not per event: what a token costs is setting a flag.
"""

from __future__ import annotations

import asyncio
from typing import Any

from openchatkit.wire import Heartbeat


class Heart:
    """Puts a `Heartbeat` into a queue of events whenever none came for an interval.

    Silence lasts at most two intervals. A reader that does not keep up is sent none.
    """

    def __init__(self, events: asyncio.Queue[Any], interval_s: float | None) -> None:
        self._events = events
        self._interval_s = interval_s
        self._rested = False
        self._timer: asyncio.TimerHandle | None = None
        self._again()

    def rest(self) -> None:
        """Leave out the next beat: an event has just been read."""
        self._rested = True

    def stop(self) -> None:
        """Beat no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _again(self) -> None:
        if self._interval_s is not None:
            self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._beat)

    def _beat(self) -> None:
        if not self._rested and self._events.empty():
            self._events.put_nowait(Heartbeat())
        self._rested = False
        self._again()
