"""What the page needs from the chatbot, and the records that pass between.

Not the chatbot's own ports: `service_port.py` turns `OpenChatKitService` into a `PageService` for one
user, and `tests/browser` has a small one of its own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, Protocol

Rating = Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage behind an answer. `text` is None where the source holds it no more."""

    number: int
    """The n of `[n]` in the answer."""
    title: str
    source: str
    text: str | None = None
    url: str | None = None
    date: str | None = None
    """ISO 8601."""
    place: str | None = None


@dataclass(frozen=True, slots=True)
class Override:
    """Moderation put its own reply in the place of the answer."""

    direction: Literal["input", "output"]
    label: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """A finished turn, as it is stored."""

    session_id: str
    turn: int
    human: str
    bot: str
    finish_reason: str
    created_at: float
    """Seconds since the epoch, UTC."""
    citations: tuple[Citation, ...] = ()
    override: Override | None = None
    retrieval_failed: bool = False
    """No passages could be had, so the answer has no sources."""
    rating: Rating | None = None
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Started:
    """The first event of a turn."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Delta:
    """More text of the answer."""

    text: str


Event = Started | Delta | Exchange
"""A turn is one `Started`, any number of `Delta`, one `Exchange`; an error is raised instead."""


@dataclass(frozen=True, slots=True)
class SessionEntry:
    """A conversation in the history list."""

    session_id: str
    title: str
    updated_at: float


@dataclass(frozen=True, slots=True)
class SessionList:
    """A page of the history list, newest first. `cursor` is None on the last page."""

    entries: tuple[SessionEntry, ...]
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class About:
    """What the page says about the chatbot behind it."""

    model: str
    demonstration: bool
    """Whether the model is the small one that comes with the repository."""
    starters: tuple[str, ...] = ()
    """Questions to start with."""


class PageService(Protocol):
    """The chatbot for the page's one user.

    Every method raises an `OpenChatKitError`, whose message is written for the user.
    """

    def ask(self, text: str, session_id: str | None, replace_turn: int | None) -> AsyncGenerator[Event, None]:
        """Answer a text, in a new conversation where `session_id` is None.

        With `replace_turn` the new turn takes the place of that one, and all later ones go.
        """
        ...

    async def cancel(self, session_id: str) -> None:
        """Stop the answer of a session; its stream ends with an `Exchange` of what was shown."""
        ...

    async def history(self, session_id: str) -> list[Exchange] | None:
        """Return the turns, oldest first, passages by reference; None for an unknown session."""
        ...

    async def passage(self, session_id: str, turn: int, number: int) -> Citation | None:
        """Return a cited passage with its text."""
        ...

    async def sessions(self, limit: int, cursor: str | None) -> SessionList:
        """Return a page of the conversations, newest first."""
        ...

    async def rename(self, session_id: str, title: str) -> None:
        """Give a conversation another title."""
        ...

    async def delete(self, session_id: str) -> None:
        """Delete a conversation; an answer it is getting is stopped and not stored."""
        ...

    async def feedback(self, session_id: str, turn: int, rating: Rating | None, comment: str) -> None:
        """Store a thumb on a turn; None takes it back."""
        ...
