"""A blocking store behind the asynchronous port: its calls run on threads of its own.

Neither sqlite3 nor boto3 awaits anything. Own threads, not the loop's default executor, keep a
slow disk or network from holding up the model's and the encoder's work there. A call whose caller
was cancelled runs to its end: a write happens whole or not at all, heard or unheard.
"""

# ruff: noqa: D102 - what the methods do and raise stands in `ports.ConversationStore`

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar

from openchatkit.errors import StoreUnavailable
from openchatkit.ports import ConversationStore, Feedback, Session, SessionPage, Turn

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

Clock = Callable[[], float]
"""Seconds since the epoch; `time.time` outside of tests."""
SECONDS_A_DAY = 86_400
OPENING_S = 2 * 3_600
"""How long a session that is not listed waits for its first turn, which takes an hour at most."""


class BlockingStore(Protocol):
    """`ports.ConversationStore` without the `await`; the same rules and errors."""

    def create(self, session: Session, listed: bool) -> None: ...
    def session(self, session_id: str) -> Session | None: ...
    def sessions(self, owner: str, limit: int, cursor: str | None) -> SessionPage: ...
    def rename(self, session_id: str, title: str) -> None: ...
    def delete(self, session_id: str) -> None: ...
    def turns(self, session_id: str, limit: int, before: int | None) -> list[Turn]: ...
    def append(self, turn: Turn, title: str | None) -> None: ...
    def replace(self, turn: Turn, expected: str) -> None: ...
    def set_feedback(self, session_id: str, number: int, feedback: Feedback | None) -> bool: ...
    def set_cancel_mark(self, session_id: str, mark: str) -> None: ...
    def close(self) -> None: ...


class ThreadedStore(ConversationStore):
    """Runs a blocking store's methods on a pool of threads.

    Each method raises what the port says, and `StoreUnavailable` once the store is closed.

    Args:
        threads: the pool; the store owns it from now on.
        store: what runs on it, its `close` included.
    """

    def __init__(self, threads: ThreadPoolExecutor, store: BlockingStore) -> None:
        self._threads = threads
        self._store = store

    async def create(self, session: Session, *, listed: bool = True) -> None:
        await self._run(self._store.create, session, listed)

    async def session(self, session_id: str) -> Session | None:
        return await self._run(self._store.session, session_id)

    async def sessions(self, owner: str, limit: int, cursor: str | None = None) -> SessionPage:
        return await self._run(self._store.sessions, owner, limit, cursor)

    async def rename(self, session_id: str, title: str) -> None:
        await self._run(self._store.rename, session_id, title)

    async def delete(self, session_id: str) -> None:
        await self._run(self._store.delete, session_id)

    async def turns(self, session_id: str, limit: int, before: int | None = None) -> list[Turn]:
        return await self._run(self._store.turns, session_id, limit, before)

    async def append(self, turn: Turn, *, title: str | None = None) -> None:
        await self._run(self._store.append, turn, title)

    async def replace(self, turn: Turn, *, expected: str) -> None:
        await self._run(self._store.replace, turn, expected)

    async def set_feedback(self, session_id: str, number: int, feedback: Feedback | None) -> bool:
        return await self._run(self._store.set_feedback, session_id, number, feedback)

    async def set_cancel_mark(self, session_id: str, mark: str) -> None:
        await self._run(self._store.set_cancel_mark, session_id, mark)

    async def close(self) -> None:
        """Finish what is under way and let go of the store. Closing twice is fine."""
        with contextlib.suppress(StoreUnavailable):
            await self._run(self._store.close)
        await asyncio.to_thread(self._threads.shutdown)

    async def _run(
        self,
        call: Callable[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> _Result:
        try:
            running = self._threads.submit(call, *args, **kwargs)
        except RuntimeError as error:
            raise StoreUnavailable("the conversation store is closed") from error
        return await asyncio.wrap_future(running)
