"""A conversation: a session, the turns that a new one builds on, and how the new one is stored.

The store keeps; `Conversation` knows the rules: whose session it is, which number the next turn
has, what an edited turn replaces. A turn is stored whole, by one conditional write, or not at all.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from openchatkit.errors import InvalidRequest, SessionNotFound
from openchatkit.ports import UNTITLED, ConversationStore, Session, Turn
from openchatkit.wire import MAX_TITLE_CHARACTERS

SESSION_ID_BYTES = 16
"""128 random bits: an id cannot be guessed. The owner is checked all the same."""
_TITLE_CHARACTERS = 80


def new_session(owner: str) -> Session:
    """Return the header of a session that begins now."""
    now = time.time()
    return Session(secrets.token_hex(SESSION_ID_BYTES), owner, UNTITLED, created_at=now, updated_at=now)


def title_of(question: str) -> str:
    """Return a session's title: the first question, shortened at a word."""
    line = " ".join(question.split())
    if len(line) <= _TITLE_CHARACTERS:
        return line
    return line[: _TITLE_CHARACTERS - 1].rsplit(" ", 1)[0][:MAX_TITLE_CHARACTERS] + "…"


async def owned_session(store: ConversationStore, session_id: str, owner: str) -> Session:
    """Return a session of this owner.

    Raises:
        SessionNotFound: there is none, or it is another owner's: the answer does not tell which.
    """
    session = await store.session(session_id)
    if session is None or session.owner != owner:
        raise SessionNotFound("there is no such session")
    return session


@dataclass(frozen=True, slots=True)
class Conversation:
    """A session as one new turn sees it."""

    session: Session
    history: tuple[Turn, ...]
    """The newest turns before the new one, oldest first."""
    number: int
    """The new turn's number."""
    replaced: Turn | None = None
    """The turn whose place the new one takes."""

    @classmethod
    async def begin(cls, store: ConversationStore, owner: str) -> Conversation:
        """Open a new session in the store, for `cancel` to find; its first turn lists it."""
        session = new_session(owner)
        await store.create(session, listed=False)
        return cls(session, (), 1)

    @classmethod
    async def resume(
        cls,
        store: ConversationStore,
        session_id: str,
        owner: str,
        *,
        limit: int,
        replace_turn: int | None = None,
    ) -> Conversation:
        """Load a session and its newest `limit` turns.

        Raises:
            SessionNotFound: no such session of this owner.
            InvalidRequest: `replace_turn` names a turn that does not exist.
        """
        session = await owned_session(store, session_id, owner)
        if replace_turn is None:
            history = await store.turns(session_id, max(limit, 1))
            number = history[-1].number + 1 if history else 1
            return cls(session, tuple(history) if limit else (), number)
        newest = await store.turns(session_id, limit + 1, before=replace_turn + 1)
        if not newest or newest[-1].number != replace_turn:
            raise InvalidRequest(f"replace_turn: the session has no turn {replace_turn}")
        return cls(session, tuple(newest[:-1]), replace_turn, newest[-1])

    async def store_turn(self, store: ConversationStore, turn: Turn) -> None:
        """Store the new turn.

        Raises:
            Conflict: another request stored it first.
            SessionNotFound: the session was deleted meanwhile.
        """
        if self.replaced is not None:
            await store.replace(turn, expected=self.replaced.request_id)
        else:
            await store.append(turn, title=title_of(turn.human) if turn.number == 1 else None)
