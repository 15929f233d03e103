"""`OpenChatKitService` as the page's `PageService`: one user, records in the page's own words."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from local.page.ports import (
    Citation,
    Delta,
    Event,
    Exchange,
    Override,
    Rating,
    SessionEntry,
    SessionList,
    Started,
)
from openchatkit import wire
from openchatkit.errors import SessionNotFound
from openchatkit.service import OpenChatKitService

MAX_TURNS = 1_000
"""Newest turns of a conversation that the page shows."""


class ServicePort:
    """The chatbot for one user. Methods are those of `PageService`."""

    def __init__(self, service: OpenChatKitService, user_id: str = wire.DEFAULT_USER) -> None:
        self._service = service
        self._user = user_id

    async def ask(
        self, text: str, session_id: str | None, replace_turn: int | None
    ) -> AsyncGenerator[Event, None]:
        """Answer a text; see `PageService.ask`."""
        fields = {
            "inputs": text,
            "session_id": session_id,
            "user_id": self._user,
            "replace_turn": replace_turn,
        }
        request = wire.validate(wire.ChatRequest, fields)
        async with aclosing(self._service.stream(request)) as events:
            async for event in events:
                if isinstance(event, str):
                    yield Delta(event)
                elif isinstance(event, wire.Reply):
                    yield exchange_of(event, text)
                elif isinstance(event, wire.Started) and event.session_id is not None:
                    yield Started(event.session_id)

    async def cancel(self, session_id: str) -> None:
        """Stop the answer that a session is getting."""
        await self._service.cancel(
            wire.CancelRequest(requestType="CANCEL", session_id=session_id, user_id=self._user)
        )

    async def history(self, session_id: str) -> list[Exchange] | None:
        """Return the newest `MAX_TURNS` turns, oldest first; None for an unknown session."""
        turns: list[Exchange] = []
        before: int | None = None
        while len(turns) < MAX_TURNS:
            try:
                page = await self._history(session_id, wire.MAX_PAGE, before)
            except SessionNotFound:
                return None
            turns = [stored_exchange(session_id, turn) for turn in page.turns] + turns
            if not page.more:
                break
            before = page.turns[0].turn
        return turns

    async def passage(self, session_id: str, turn: int, number: int) -> Citation | None:
        """Return a passage that a turn cites, with its text."""
        page = await self._history(session_id, 1, turn + 1)
        cited = page.turns[0].citations if page.turns and page.turns[0].turn == turn else []
        return next((citation_of(citation) for citation in cited if citation.number == number), None)

    async def _history(self, session_id: str, limit: int, before: int | None) -> wire.History:
        fields = {"requestType": "HISTORY", "session_id": session_id, "user_id": self._user}
        request = wire.validate(wire.HistoryRequest, fields | {"limit": limit, "before": before})
        return await self._service.history(request)

    async def sessions(self, limit: int, cursor: str | None) -> SessionList:
        """Return a page of this user's conversations, newest first."""
        request = wire.SessionsRequest(
            requestType="SESSIONS", user_id=self._user, limit=min(limit, wire.MAX_PAGE), cursor=cursor
        )
        page = await self._service.sessions(request)
        entries = (SessionEntry(entry.session_id, entry.title, entry.updated_at) for entry in page.sessions)
        return SessionList(tuple(entries), page.cursor)

    async def rename(self, session_id: str, title: str) -> None:
        """Give a conversation another title; a longer one than the wire allows is cut."""
        fields = {"requestType": "RENAME", "session_id": session_id, "user_id": self._user}
        request = wire.validate(wire.RenameRequest, fields | {"title": title[: wire.MAX_TITLE_CHARACTERS]})
        await self._service.rename(request)

    async def delete(self, session_id: str) -> None:
        """Delete a conversation. One that is gone already is fine."""
        try:
            await self._service.delete(
                wire.DeleteRequest(requestType="DELETE", session_id=session_id, user_id=self._user)
            )
        except SessionNotFound:
            return

    async def feedback(self, session_id: str, turn: int, rating: Rating | None, comment: str) -> None:
        """Store a thumb on a turn, or take it back."""
        fields = {"requestType": "FEEDBACK", "session_id": session_id, "user_id": self._user, "turn": turn}
        said = {"rating": rating or "none", "comment": comment[: wire.MAX_COMMENT_CHARACTERS]}
        await self._service.feedback(wire.validate(wire.FeedbackRequest, fields | said))


def exchange_of(reply: wire.Reply, human: str) -> Exchange:
    """Return a finished turn from its reply."""
    details = reply.details
    if details.session_id is None or details.turn is None:
        raise SessionNotFound("the turn belongs to no session")
    failed = bool(details.retrieval.failures) and not details.retrieval.passages
    return Exchange(
        session_id=details.session_id,
        turn=details.turn,
        human=human,
        bot=reply.generated_text,
        finish_reason=details.finish_reason,
        created_at=time.time(),
        citations=tuple(citation_of(citation) for citation in details.citations),
        override=override_of(details.finish_reason, details.moderation),
        retrieval_failed=failed,
    )


def stored_exchange(session_id: str, turn: wire.StoredTurn) -> Exchange:
    """Return a finished turn from the history."""
    return Exchange(
        session_id=session_id,
        turn=turn.turn,
        human=turn.human,
        bot=turn.bot,
        finish_reason=turn.finish_reason,
        created_at=turn.created_at,
        citations=tuple(citation_of(citation) for citation in turn.citations),
        override=override_of(turn.finish_reason, turn.moderation),
        rating=turn.feedback,
    )


def override_of(finish_reason: str, moderation: wire.ModerationDetails) -> Override | None:
    """Return which direction's verdict put the policy's reply in the answer's place."""
    if finish_reason != "moderated":
        return None
    if moderation.output is not None:
        return Override("output", moderation.output.label)
    return Override("input", moderation.input.label if moderation.input else "not judged")


def citation_of(citation: wire.Citation) -> Citation:
    """Return a citation in the page's words; the wire's empty text means that the source lost it."""
    return Citation(
        number=citation.number,
        title=citation.title,
        source=citation.source,
        text=citation.text or None,
        url=citation.url,
        date=citation.date,
        place=citation.place,
    )
