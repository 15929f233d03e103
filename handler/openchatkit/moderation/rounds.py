"""Judgements in rounds, for a judge that shares its accelerator with the chat model.

Two processes on one GPU take turns: a judge that always has some small thing to compute gets half of the
device's time, however little that is. So who comes while others are being judged waits until they are
done and the chat model has had the device to itself for a while; then all that wait go together in one
batch. One that comes while nobody is judged goes at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence

SHARE_BESIDE_CHAT = 0.2
"""Of the time that rounds may take where the chat model answers on the same device (docs/LOG.md)."""
LONGEST_ROUND_S = 1.0
"""After that the next round begins, whoever is still busy: one that hangs holds up nobody."""
LONGEST_PAUSE_S = 0.08
"""What a judgement waits at most for the chat model's sake, the round before it aside."""


class Rounds:
    """A gate that opens for all who wait at it, when those before them are through. One event loop's."""

    def __init__(self, share: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            share: of the time, that rounds may take while there is a queue; between 0 and 1.
            clock: seconds, for tests.
        """
        if not 0 < share <= 1:
            raise ValueError("the share of the rounds is more than 0 and at most 1")
        self._pause_of = (1 - share) / share
        self._clock = clock
        self._opens_at = float("-inf")
        self._waiting: list[asyncio.Future[_Round]] = []
        self._keeper: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncGenerator[None, None]:
        """Wait for the next round and be in it while the body runs."""
        admitted = asyncio.get_running_loop().create_future()
        self._waiting.append(admitted)
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep())
        try:
            joined = await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled():
                admitted.result().leave()  # cancelled in the very moment that the gate opened
            raise
        try:
            yield
        finally:
            joined.leave()

    async def _keep(self) -> None:
        """Hold rounds as long as somebody waits."""
        try:
            while True:
                await asyncio.sleep(max(0.0, self._opens_at - self._clock()))
                admitted = [future for future in self._waiting if not future.done()]
                self._waiting.clear()
                if not admitted:
                    return
                began = self._clock()
                members = _Round(len(admitted), self._waiting)
                for future in admitted:
                    future.set_result(members)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(members.over.wait(), LONGEST_ROUND_S)
                ended = self._clock()
                if 0 < members.waiting <= len(admitted):
                    # Without a pause the judge would be busy all the time. A crowd that came while a
                    # few were judged does not pay for those few.
                    self._opens_at = ended + min(LONGEST_PAUSE_S, (ended - began) * self._pause_of)
                if not self._waiting:
                    return
        finally:
            self._keeper = None


class _Round:
    """Those who went through the gate together."""

    def __init__(self, members: int, waiting: Sequence[object]) -> None:
        self.over = asyncio.Event()
        self.waiting = members
        """How many waited when the last one left; as many as they are where one never did."""
        self._members = members
        self._waiting = waiting

    def leave(self) -> None:
        self._members -= 1
        if self._members == 0:
            self.waiting = len(self._waiting)
            self.over.set()
