"""Chainlit's data layer on our conversation store: the page and the CLI see the same conversations.

Nothing is stored twice. A thread is a session, its steps are made from the stored turns when they are
asked for, and the calls by which Chainlit would store steps and elements of its own do nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from chainlit.data.base import BaseDataLayer
from chainlit.element import Element, ElementDict
from chainlit.session import ws_sessions_id
from chainlit.step import StepDict
from chainlit.types import Feedback, PageInfo, PaginatedResponse, Pagination, ThreadDict, ThreadFilter
from chainlit.user import PersistedUser, User

from local.page import render
from local.page.ports import SessionEntry
from local.page.turns import Turns, Window

USER = "local"
"""The page's one user, as Chainlit knows it."""
MAX_SEARCHED = 1_000
"""Newest conversations whose titles a search looks at."""
PAGE = 100
HOME_DELAY_S = 0.5
"""Until the page that deleted has gone to the start page."""


class Conversations(BaseDataLayer):
    """The history list, a conversation's steps, names, deletion and feedback."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._tasks: set[asyncio.Task[None]] = set()

    async def get_user(self, identifier: str) -> PersistedUser:
        """Return the one user there is."""
        return PersistedUser(id=USER, identifier=USER, createdAt=render.iso_time(0), display_name="You")

    async def create_user(self, user: User) -> PersistedUser:
        """Return the one user there is."""
        return await self.get_user(user.identifier)

    async def get_thread_author(self, thread_id: str) -> str:
        """Return the owner: the service shows this user's sessions only, others do not exist."""
        return USER if await self._turns.service.history(thread_id) is not None else ""

    async def get_thread(self, thread_id: str) -> ThreadDict | None:
        """Return a conversation with its steps, None for one that does not exist."""
        await self._turns.settled(thread_id)
        history = await self._turns.service.history(thread_id)
        if history is None:
            return None
        created_at = history[0].created_at if history else 0.0
        steps: list[Any] = render.thread_steps(history)
        return _thread(thread_id, history[0].human if history else "", created_at, steps)

    async def list_threads(
        self, pagination: Pagination, filters: ThreadFilter
    ) -> PaginatedResponse[ThreadDict]:
        """Return a page of the history list, or all whose title holds the words of a search."""
        if filters.search:
            entries, cursor = await self._found(filters.search, pagination.first), None
        else:
            page = await self._turns.service.sessions(min(pagination.first, PAGE), pagination.cursor)
            entries, cursor = list(page.entries), page.cursor
        threads = [_thread(entry.session_id, entry.title, entry.updated_at, []) for entry in entries]
        info = PageInfo(hasNextPage=cursor is not None, startCursor=None, endCursor=cursor)
        return PaginatedResponse(pageInfo=info, data=threads)

    async def _found(self, words: str, limit: int) -> list[SessionEntry]:
        wanted = words.casefold().split()
        found: list[SessionEntry] = []
        cursor: str | None = None
        for _ in range(MAX_SEARCHED // PAGE):
            page = await self._turns.service.sessions(PAGE, cursor)
            found += [
                entry for entry in page.entries if all(word in entry.title.casefold() for word in wanted)
            ]
            cursor = page.cursor
            if cursor is None or len(found) >= limit:
                break
        return found[:limit]

    async def delete_thread(self, thread_id: str) -> None:
        """Delete a conversation; an answer in flight is stopped and not stored."""
        await self._turns.service.delete(thread_id)
        task = asyncio.create_task(_send_home(thread_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def update_thread(
        self,
        thread_id: str,
        name: str | None = None,
        user_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        tags: list[str] | None = None,
    ) -> None:
        """Rename a conversation. Whatever else Chainlit would keep about it is not kept."""
        if name and name.strip():
            await self._turns.service.rename(thread_id, name.strip())

    async def upsert_feedback(self, feedback: Feedback) -> str:
        """Store a thumb on the turn that a step belongs to."""
        if place := self._turns.place(feedback.forId):
            rating = "up" if feedback.value else "down"
            comment = (feedback.comment or "").strip()
            await self._turns.service.feedback(*place, "up" if rating == "up" else "down", comment)
        return feedback.forId

    async def delete_feedback(self, feedback_id: str) -> bool:
        """Take a thumb back."""
        place = self._turns.place(feedback_id)
        if place is not None:
            await self._turns.service.feedback(*place, None, "")
        return place is not None

    async def create_element(self, element: Element) -> None:
        """Elements are not used."""

    async def get_element(self, thread_id: str, element_id: str) -> ElementDict | None:
        """Elements are not used."""
        return None

    async def delete_element(self, element_id: str, thread_id: str | None = None) -> None:
        """Elements are not used."""

    async def create_step(self, step_dict: StepDict) -> None:
        """The service has stored the turn."""

    async def update_step(self, step_dict: StepDict) -> None:
        """The service has stored the turn."""

    async def delete_step(self, step_id: str) -> None:
        """A turn goes when another one replaces it."""

    async def get_favorite_steps(self, user_id: str) -> list[StepDict]:
        """Favourites are switched off."""
        return []

    async def build_debug_url(self) -> str:
        """There is no such place."""
        return ""

    async def close(self) -> None:
        """The store belongs to the service."""


async def _send_home(thread_id: str) -> None:
    """Load pages anew that still show a deleted conversation.

    One in another tab does, and so may the one that deleted: the front end can resume the
    conversation between its own clearing and the deletion.
    """
    await asyncio.sleep(HOME_DELAY_S)
    for session in list(ws_sessions_id.values()):
        if session.thread_id == thread_id and session.has_first_interaction:
            session.has_first_interaction = False
            await cast("Window", session).emit("reload", {})


def _thread(session_id: str, title: str, at: float, steps: list[Any]) -> ThreadDict:
    return ThreadDict(
        id=session_id,
        createdAt=render.iso_time(at),
        name=title,
        userId=USER,
        userIdentifier=USER,
        tags=[],
        metadata={},
        steps=steps,
        elements=[],
    )
