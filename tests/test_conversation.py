"""Whose session it is, which number a turn has, what an edit replaces."""

from __future__ import annotations

import string
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchatkit.conversation import Conversation, new_session, owned_session, title_of
from openchatkit.errors import Conflict, InvalidRequest, SessionNotFound
from openchatkit.ports import Turn
from openchatkit.stores.sqlite import SqliteStore
from openchatkit.wire import MAX_TITLE_CHARACTERS


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "c.sqlite", retention_days=None)
    yield store
    await store.close()


def turn(conversation: Conversation, human: str = "q") -> Turn:
    return Turn(
        session_id=conversation.session.session_id,
        number=conversation.number,
        request_id=f"request-{human}",
        human=human,
        bot=f"reply to {human}",
        finish_reason="stop",
        created_at=1.0,
    )


async def test_numbers_follow_each_other(store: SqliteStore) -> None:
    first = await Conversation.begin(store, "ann")
    assert first.number == 1
    await first.store_turn(store, turn(first, "a"))
    second = await Conversation.resume(store, first.session.session_id, "ann", limit=10)
    assert (second.number, [one.human for one in second.history]) == (2, ["a"])
    await second.store_turn(store, turn(second, "b"))
    third = await Conversation.resume(store, first.session.session_id, "ann", limit=1)
    assert (third.number, [one.human for one in third.history]) == (3, ["b"])
    without = await Conversation.resume(store, first.session.session_id, "ann", limit=0)
    assert (without.number, without.history) == (3, ())


async def test_a_stale_writer_conflicts(store: SqliteStore) -> None:
    first = await Conversation.begin(store, "ann")
    late = await Conversation.resume(store, first.session.session_id, "ann", limit=10)
    await first.store_turn(store, turn(first, "a"))
    with pytest.raises(Conflict):
        await late.store_turn(store, turn(late, "late"))


async def test_an_edit_that_lost_the_race_conflicts(store: SqliteStore) -> None:
    first = await Conversation.begin(store, "ann")
    await first.store_turn(store, turn(first, "a"))
    session_id = first.session.session_id
    edits = [await Conversation.resume(store, session_id, "ann", limit=10, replace_turn=1) for _ in range(2)]
    await edits[0].store_turn(store, turn(edits[0], "edit"))
    with pytest.raises(Conflict):
        await edits[1].store_turn(store, turn(edits[1], "other edit"))
    assert [one.human for one in await store.turns(session_id, 10)] == ["edit"]


async def test_owner_and_existence_look_alike(store: SqliteStore) -> None:
    session = new_session("ann")
    await store.create(session)
    messages = []
    for session_id, owner in ((session.session_id, "bob"), ("missing", "ann")):
        with pytest.raises(SessionNotFound) as caught:
            await owned_session(store, session_id, owner)
        messages.append(caught.value.message)
    assert messages[0] == messages[1]


async def test_replacing_a_turn_that_is_not_there(store: SqliteStore) -> None:
    session = new_session("ann")
    await store.create(session)
    with pytest.raises(InvalidRequest, match="no turn 1"):
        await Conversation.resume(store, session.session_id, "ann", limit=10, replace_turn=1)


def test_session_ids_are_random_hex() -> None:
    ids = {new_session("a").session_id for _ in range(100)}
    assert len(ids) == 100
    assert all(len(one) == 32 and set(one) <= set(string.hexdigits) for one in ids)


@given(st.text(min_size=1, max_size=500))
def test_titles_are_short_lines(question: str) -> None:
    title = title_of(question)
    assert len(title) <= MAX_TITLE_CHARACTERS
    assert "\n" not in title
