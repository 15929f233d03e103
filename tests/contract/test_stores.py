"""What every conversation store does, run on each of them."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openchatkit.errors import Conflict, InvalidRequest, SessionNotFound, StoreUnavailable
from openchatkit.ports import UNTITLED, CitedPassage, ConversationStore, Feedback, Session, Turn, Verdict
from openchatkit.stores.threaded import OPENING_S
from tests.contract.conftest import Bench

DAY_S = 86_400
CANARY = "canary-7f3a"


def a_session(session_id: str = "s1", owner: str = "ada", updated_at: float = 100.25) -> Session:
    return Session(session_id, owner, UNTITLED, created_at=100.25, updated_at=updated_at)


def a_turn(number: int, session_id: str = "s1", text: str = "", **fields: Any) -> Turn:
    return Turn(
        session_id=session_id,
        number=number,
        request_id=fields.pop("request_id", f"r{number}"),
        human=text or f"question {number}",
        bot=f"answer {number}",
        finish_reason="stop",
        created_at=1000.5 + number,
        **fields,
    )


def a_full_turn(number: int = 1) -> Turn:
    return a_turn(
        number,
        citations=(
            CitedPassage(1, "10-K#3", "documents", "Annual report", 0.1 + 0.2, place="Item 7"),
            CitedPassage(2, "n1", "news", "", -0.5, url="file:///n1", date="2024-02-29"),
        ),
        input_verdict=Verdict("casual", {"casual": 1 / 3, "needs caution": 1e-300}, 0.0),
        output_verdict=Verdict("needs caution", {"needs caution": 5e-324}, 0.7000000000000001),
        prompt_tokens=2**31,
        completion_tokens=7,
        feedback=Feedback("down", "no"),
    )


async def filled(store: ConversationStore, turns: int, session_id: str = "s1") -> list[Turn]:
    await store.create(a_session(session_id))
    stored = [a_turn(number, session_id) for number in range(1, turns + 1)]
    for turn in stored:
        await store.append(turn)
    return stored


# --- sessions --------------------------------------------------------------------------------


async def test_a_created_session_is_found(store: ConversationStore) -> None:
    session = replace(a_session(), cancel_mark="*:1")
    await store.create(session)
    assert await store.session("s1") == session
    assert await store.session("s2") is None
    assert await store.turns("s1", 10) == []
    assert await store.turns("s2", 10) == []


async def test_an_id_is_given_once(store: ConversationStore) -> None:
    await store.create(a_session())
    with pytest.raises(Conflict):
        await store.create(a_session(owner="bob"))
    assert await store.session("s1") == a_session()


async def test_sessions_come_newest_first_in_pages(store: ConversationStore) -> None:
    for place in range(7):
        await store.create(a_session(f"s{place}", updated_at=1000 + place / 8))
    await store.create(a_session("other", owner="bob"))
    await store.append(a_turn(1, "s0"))  # makes s0 the newest
    pages, cursor = [], None
    while True:
        page = await store.sessions("ada", 3, cursor)
        pages.append([session.session_id for session in page.sessions])
        cursor = page.cursor
        if cursor is None:
            break
        assert re.fullmatch(r"[A-Za-z0-9_=-]{1,512}", cursor)
    assert pages == [["s0", "s6", "s5"], ["s4", "s3", "s2"], ["s1"]]
    assert (await store.sessions("ada", 7)).cursor is None
    assert (await store.sessions("nobody", 3)).sessions == ()


async def test_sessions_of_one_moment_are_all_listed(store: ConversationStore) -> None:
    for place in range(5):
        await store.create(a_session(f"s{place}"))
    listed, cursor = [], None
    for _ in range(5):
        page = await store.sessions("ada", 1, cursor)
        listed += [session.session_id for session in page.sessions]
        cursor = page.cursor
    assert sorted(listed) == ["s0", "s1", "s2", "s3", "s4"]
    assert cursor is None


async def test_a_page_continues_where_its_last_session_was(store: ConversationStore) -> None:
    for place in range(4):
        await store.create(a_session(f"s{place}", updated_at=100 + place))
    first = await store.sessions("ada", 2)
    await store.append(a_turn(1, "s2"))  # moves the session that the cursor stands on
    await store.delete("s1")
    second = await store.sessions("ada", 2, first.cursor)
    assert [session.session_id for session in second.sessions] == ["s0"]


async def test_a_foreign_or_forged_cursor_is_refused(store: ConversationStore) -> None:
    for place in range(3):
        await store.create(a_session(f"s{place}", updated_at=place))
        await store.create(a_session(f"b{place}", owner="bob", updated_at=place))
    cursor = (await store.sessions("bob", 1)).cursor
    assert cursor is not None
    flipped = ("A" if cursor[-1] != "A" else "B") + cursor[1:]
    for forged in (cursor, "AAAA", "x", "=", "e30=", "-" * 512, flipped, cursor[:-4], "ä", ""):
        with pytest.raises(InvalidRequest):
            await store.sessions("ada", 1, forged)


async def test_an_unlisted_session_is_listed_with_its_first_turn(store: ConversationStore) -> None:
    await filled(store, 1, "older")
    await store.create(a_session(), listed=False)
    assert await store.session("s1") == a_session()
    with pytest.raises(Conflict):
        await store.create(a_session(owner="bob"))
    await store.set_cancel_mark("s1", "*:1")
    await store.rename("s1", "Margins")
    assert [one.session_id for one in (await store.sessions("ada", 5)).sessions] == ["older"]
    await store.append(replace(a_turn(1), created_at=2000.0))
    session = replace(a_session(), title="Margins", updated_at=2000.0, cancel_mark="*:1")
    assert await store.session("s1") == session
    assert [one.session_id for one in (await store.sessions("ada", 5)).sessions] == ["s1", "older"]


@pytest.mark.parametrize("retention_days", [90, None])
async def test_an_unlisted_session_without_a_turn_is_soon_gone(
    bench: Bench, retention_days: int | None
) -> None:
    store = bench.open(retention_days)
    await store.create(a_session(), listed=False)
    await store.create(a_session("kept"), listed=False)
    await store.create(a_session("opened"))
    bench.clock.now += OPENING_S - 60
    await store.append(a_turn(1, "kept"))
    bench.clock.now += 120
    assert await store.session("s1") is None
    with pytest.raises(SessionNotFound):
        await store.append(a_turn(1))
    assert len(await store.turns("kept", 5)) == 1
    assert await store.session("opened") is not None
    await store.create(a_session(owner="bob"))
    assert await store.session("s1") == a_session(owner="bob")


async def test_rename(store: ConversationStore) -> None:
    await store.create(a_session())
    await store.rename("s1", "Margins of 2023 📈")
    renamed = replace(a_session(), title="Margins of 2023 📈")
    assert await store.session("s1") == renamed
    assert (await store.sessions("ada", 5)).sessions == (renamed,)
    with pytest.raises(SessionNotFound):
        await store.rename("s2", "Nothing")
    assert await store.session("s2") is None


async def test_the_newest_cancel_mark_counts(store: ConversationStore) -> None:
    await store.create(a_session())
    await store.set_cancel_mark("s1", "*:1")
    await store.set_cancel_mark("s1", "r1:2")
    await store.set_cancel_mark("s2", "*:3")
    assert await store.session("s1") == replace(a_session(), cancel_mark="r1:2")
    assert await store.session("s2") is None


async def test_delete_removes_all_and_may_be_repeated(store: ConversationStore) -> None:
    await filled(store, 60)
    await filled(store, 2, "s2")
    await store.delete("s1")
    await store.delete("s1")
    assert await store.session("s1") is None
    assert await store.turns("s1", 100) == []
    assert [session.session_id for session in (await store.sessions("ada", 5)).sessions] == ["s2"]
    assert len(await store.turns("s2", 5)) == 2
    await store.create(a_session())  # nothing of the old one comes back
    assert await store.turns("s1", 100) == []


# --- turns -----------------------------------------------------------------------------------


async def test_turns_come_in_order_newest_page_first(store: ConversationStore) -> None:
    turns = await filled(store, 5)
    assert await store.turns("s1", 10) == turns
    assert await store.turns("s1", 2) == turns[3:]
    assert await store.turns("s1", 2, before=4) == turns[1:3]
    assert await store.turns("s1", 2, before=9) == turns[3:]
    assert await store.turns("s1", 2, before=1) == []
    assert await store.turns("s1", 0) == []


async def test_append_sets_time_and_title(store: ConversationStore) -> None:
    await store.create(a_session())
    await store.append(a_turn(1), title="question 1")
    await store.append(a_turn(2))
    assert await store.session("s1") == replace(a_session(), title="question 1", updated_at=1002.5)


async def test_append_leaves_a_title_that_somebody_gave(bench: Bench) -> None:
    store, other = bench.open(), bench.open()
    for place in range(3):
        session_id = f"s{place}"
        await store.create(a_session(session_id))
        await asyncio.gather(
            store.append(a_turn(1, session_id), title="question 1"), other.rename(session_id, "Mine")
        )
        assert await store.session(session_id) == replace(
            a_session(session_id), title="Mine", updated_at=1001.5
        )


@pytest.mark.parametrize("number", [0, 1, 2, 4])
async def test_only_the_next_number_is_free(store: ConversationStore, number: int) -> None:
    turns = await filled(store, 2)
    with pytest.raises(Conflict):
        await store.append(a_turn(number, request_id="late"), title="late")
    assert await store.turns("s1", 10) == turns
    assert await store.session("s1") == replace(a_session(), updated_at=1002.5)


async def test_two_writers_of_one_turn(bench: Bench) -> None:
    first, second = bench.open(), bench.open()
    await first.create(a_session())
    for number in range(1, 6):
        rivals = [a_turn(number, request_id=f"{name}{number}") for name in "ab"]
        outcomes = await asyncio.gather(
            *(store.append(turn) for store, turn in zip((first, second), rivals, strict=True)),
            return_exceptions=True,
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "NoneType"]
        winner = rivals[outcomes.index(None)]
        assert (await first.turns("s1", 1)) == [winner] == (await second.turns("s1", 1))
    assert len(await first.turns("s1", 10)) == 5


async def test_a_deleted_session_cannot_grow(store: ConversationStore) -> None:
    await filled(store, 1)
    await store.delete("s1")
    for number in (1, 2):
        with pytest.raises(SessionNotFound):
            await store.append(a_turn(number))
    with pytest.raises(Conflict):
        await store.replace(a_turn(1), expected="r1")
    assert await store.set_feedback("s1", 1, Feedback("up")) is False
    await store.create(a_session())
    assert await store.turns("s1", 5) == []


async def test_deletion_and_writers_at_once_leave_no_orphan(bench: Bench) -> None:
    store, other = bench.open(), bench.open()
    for _ in range(3):
        await filled(store, 2)
        outcomes = await asyncio.gather(
            store.append(a_turn(3)), other.delete("s1"), store.append(a_turn(3)), return_exceptions=True
        )
        assert outcomes[1] is None
        assert all(isinstance(outcome, (Conflict, SessionNotFound, type(None))) for outcome in outcomes)
        assert await store.session("s1") is None
        await store.create(a_session())
        assert await store.turns("s1", 10) == []
        await store.delete("s1")


async def test_replace_drops_what_came_after(store: ConversationStore) -> None:
    turns = await filled(store, 5)
    edited = replace(a_turn(3, request_id="edited", text="another question"), created_at=2000.0)
    await store.replace(edited, expected="r3")
    assert await store.turns("s1", 10) == [*turns[:2], edited]
    assert await store.turns("s1", 2, before=9) == [turns[1], edited]
    session = await store.session("s1")
    assert session is not None
    assert session.updated_at == 2000.0
    await store.append(a_turn(4, request_id="next"))
    assert [turn.request_id for turn in await store.turns("s1", 10)] == ["r1", "r2", "edited", "next"]


@pytest.mark.parametrize(("number", "expected"), [(2, "r3"), (2, ""), (4, "r3"), (4, "r4"), (0, "r1")])
async def test_a_replacement_that_comes_too_late(
    store: ConversationStore, number: int, expected: str
) -> None:
    turns = await filled(store, 3)
    with pytest.raises(Conflict):
        await store.replace(a_turn(number, request_id="late"), expected=expected)
    assert await store.turns("s1", 10) == turns
    assert await store.session("s1") == replace(a_session(), updated_at=1003.5)


async def test_of_two_replacements_one_wins(bench: Bench) -> None:
    first, second = bench.open(), bench.open()
    await filled(first, 3)
    rivals = [a_turn(2, request_id=name) for name in "ab"]
    outcomes = await asyncio.gather(
        first.replace(rivals[0], expected="r2"),
        second.replace(rivals[1], expected="r2"),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "NoneType"]
    assert (await first.turns("s1", 10))[1:] == [rivals[outcomes.index(None)]]


async def test_writers_and_readers_at_once_see_whole_conversations(bench: Bench) -> None:
    stores = [bench.open() for _ in range(3)]
    await filled(stores[0], 2)
    written = {"r1", "r2"}

    async def work(name: str, store: ConversationStore) -> None:
        for step in range(10):
            try:
                turns = await store.turns("s1", 100)
                assert [turn.number for turn in turns] == list(range(1, len(turns) + 1))
                last = turns[-1]
                turn = a_turn(last.number + 1, request_id=f"{name}{step}")
                if step % 3 == 2:
                    await store.replace(replace(turn, number=last.number), expected=last.request_id)
                else:
                    await store.append(turn)
                written.add(turn.request_id)
            except (Conflict, StoreUnavailable):
                continue  # somebody was faster, again and again

    await asyncio.gather(*(work(name, store) for name, store in zip("abc", stores, strict=True)))
    turns = await stores[0].turns("s1", 100)
    assert [turn.number for turn in turns] == list(range(1, len(turns) + 1))
    assert {turn.request_id for turn in turns} <= written
    assert len(written) > 5


async def test_more_text_than_one_page_holds(store: ConversationStore) -> None:
    await store.create(a_session())
    turns = [a_turn(number, text="ß" * 30_000) for number in range(1, 25)]  # 1.4 MB
    for turn in turns:
        await store.append(turn)
    assert await store.turns("s1", 100) == turns
    assert await store.turns("s1", 20, before=24) == turns[3:23]
    await store.replace(a_turn(2, request_id="edited"), expected="r2")
    assert [turn.request_id for turn in await store.turns("s1", 100)] == ["r1", "edited"]
    await store.delete("s1")
    assert await store.turns("s1", 100) == []


async def test_the_largest_turn_takes_a_comment_too(store: ConversationStore) -> None:
    await store.create(a_session())
    turn = a_turn(1, text="𝄞" * 99_000)
    await store.append(turn)
    comment = Feedback("up", "𝄞" * 2000)
    assert await store.set_feedback("s1", 1, comment) is True
    assert await store.turns("s1", 1) == [replace(turn, feedback=comment)]


# --- feedback --------------------------------------------------------------------------------


async def test_feedback_is_set_and_cleared(store: ConversationStore) -> None:
    turns = await filled(store, 2)
    assert await store.set_feedback("s1", 1, Feedback("down", "wrong year\n😕")) is True
    assert await store.set_feedback("s1", 1, Feedback("up", "")) is True
    assert await store.turns("s1", 5) == [replace(turns[0], feedback=Feedback("up", "")), turns[1]]
    assert await store.set_feedback("s1", 1, None) is True
    assert await store.turns("s1", 5) == turns
    for session_id, number in (("s1", 3), ("s1", 0), ("s2", 1)):
        assert await store.set_feedback(session_id, number, Feedback("up")) is False
    assert await store.session("s1") == replace(a_session(), updated_at=1002.5)


# --- expiry ----------------------------------------------------------------------------------


async def test_a_conversation_expires_after_its_last_turn(bench: Bench) -> None:
    store = bench.open(retention_days=10)
    await filled(store, 2)
    await filled(store, 1, "kept")
    bench.clock.now += 9 * DAY_S
    await store.append(a_turn(2, "kept"))
    bench.clock.now += 2 * DAY_S
    assert await store.session("s1") is None
    assert await store.turns("s1", 5) == []
    assert [session.session_id for session in (await store.sessions("ada", 5)).sessions] == ["kept"]
    assert len(await store.turns("kept", 5)) == 2
    with pytest.raises(SessionNotFound):
        await store.append(a_turn(3))
    with pytest.raises(SessionNotFound):
        await store.rename("s1", "late")
    with pytest.raises(Conflict):
        await store.replace(a_turn(1), expected="r1")
    assert await store.set_feedback("s1", 1, Feedback("up")) is False
    await store.create(a_session())
    assert await store.turns("s1", 5) == []
    await store.append(a_turn(1))


async def test_without_retention_nothing_expires(bench: Bench) -> None:
    store = bench.open(retention_days=None)
    turns = await filled(store, 2)
    bench.clock.now += 40_000 * DAY_S
    assert await store.turns("s1", 5) == turns


async def test_pages_of_sessions_skip_the_expired(bench: Bench) -> None:
    store = bench.open(retention_days=1)
    for place in range(9):
        await store.create(a_session(f"s{place}", updated_at=100 + place))
        if place % 3 == 0:
            bench.clock.now += DAY_S / 4
    bench.clock.now += DAY_S / 2 + 60
    page = await store.sessions("ada", 4)
    following = await store.sessions("ada", 4, page.cursor)
    assert [session.session_id for session in page.sessions] == ["s8", "s7", "s6", "s5"]
    assert [session.session_id for session in following.sessions] == ["s4"]
    assert following.cursor is None


# --- what is stored is what comes back -------------------------------------------------------


async def test_a_full_turn_comes_back_as_it_was(store: ConversationStore) -> None:
    await store.create(a_session())
    await store.append(a_full_turn())
    assert await store.turns("s1", 1) == [a_full_turn()]


@pytest.mark.parametrize(
    "text",
    [
        "line\r\nline\n\n\ttab ",
        "👩🏽‍🔬 e\u0301 é \u200b\ufeff",
        "שלום \u202bעולם\u202c مرحبا",
        "".join(chr(plane * 0x10000 + 0x1234) for plane in range(17)) + "\uffff\U0010ffff",
        "\x00\x01\x1f\x7f\x85\u2028",
        "'; DROP TABLE turns; -- \" \\ {} [1] %s :id #turn",
    ],
)
async def test_any_unicode(store: ConversationStore, text: str) -> None:
    await store.create(replace(a_session(), title=text))
    turn = replace(a_turn(1), human=text, bot=text, feedback=Feedback("up", text))
    await store.append(turn)
    assert await store.turns("s1", 1) == [turn]
    session = await store.session("s1")
    assert session is not None
    assert session.title == text


@pytest.mark.parametrize(
    "turn",
    [
        a_turn(1, text=f"{CANARY} \ud800"),
        a_turn(1, text=CANARY, input_verdict=Verdict("casual", {"casual": float("nan")}, 0.0)),
        a_turn(1, text=CANARY, output_verdict=Verdict("casual", {}, float("inf"))),
    ],
)
async def test_what_cannot_come_back_is_refused(store: ConversationStore, turn: Turn) -> None:
    await store.create(a_session())
    with pytest.raises(InvalidRequest) as refusal:
        await store.append(turn)
    assert CANARY not in repr(refusal.value)
    assert refusal.value.__cause__ is None
    assert await store.turns("s1", 1) == []
    assert await store.session("s1") == a_session()


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**53)
CITATIONS = st.builds(
    CitedPassage,
    number=COUNTS,
    id=TEXTS,
    source=TEXTS,
    title=TEXTS,
    score=FLOATS,
    url=st.none() | TEXTS,
    date=st.none() | TEXTS,
    place=st.none() | TEXTS,
)
LABELS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
VERDICTS = st.none() | st.builds(
    Verdict, label=TEXTS, scores=st.dictionaries(LABELS, FLOATS, max_size=5), harm=FLOATS
)
TURNS = st.builds(
    Turn,
    session_id=st.just(""),
    number=st.just(1),
    request_id=TEXTS,
    human=TEXTS,
    bot=TEXTS,
    finish_reason=st.sampled_from(["stop", "length", "moderated", "out_of_domain", "cancelled"]),
    created_at=st.floats(0, 1e11),
    citations=st.lists(CITATIONS, max_size=3).map(tuple),
    input_verdict=VERDICTS,
    output_verdict=VERDICTS,
    prompt_tokens=COUNTS,
    completion_tokens=COUNTS,
    feedback=st.none() | st.builds(Feedback, rating=st.sampled_from(["up", "down"]), comment=TEXTS),
)


@given(turn=TURNS)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_any_turn_comes_back_as_it_was(store: ConversationStore, turn: Turn) -> None:
    turn = replace(turn, session_id=uuid.uuid4().hex)
    await store.create(a_session(turn.session_id))
    await store.append(turn)
    assert await store.turns(turn.session_id, 1) == [turn]
    session = await store.session(turn.session_id)
    assert session is not None
    assert session.updated_at == turn.created_at


# --- around ----------------------------------------------------------------------------------


async def test_no_text_reaches_a_log_or_an_error(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    store = bench.open()
    await store.create(replace(a_session(), title=CANARY))
    turn = replace(a_turn(1, text=CANARY), bot=CANARY)
    await store.append(turn, title=CANARY)
    await store.set_feedback("s1", 1, Feedback("up", CANARY))
    errors: list[BaseException] = []
    refused: Sequence[Any] = (
        store.append(turn),
        store.replace(turn, expected=CANARY),
        store.create(replace(a_session(), title=CANARY)),
        store.rename("s2", CANARY),
    )
    for call in refused:
        with pytest.raises((Conflict, SessionNotFound)) as refusal:
            await call
        errors.append(refusal.value)
    assert await store.turns("s1", 1) == [replace(turn, feedback=Feedback("up", CANARY))]
    for error in errors:
        shown = cast("BaseException | None", error)
        while shown is not None:
            assert CANARY not in repr(shown)
            shown = shown.__cause__
    assert CANARY not in caplog.text


async def test_a_closed_store_is_unavailable(bench: Bench) -> None:
    store = bench.open()
    await filled(store, 1)
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.session("s1")
    assert len(await bench.open().turns("s1", 5)) == 1


async def test_many_calls_at_once(store: ConversationStore) -> None:
    ids = [f"s{place}" for place in range(40)]
    await asyncio.gather(*(filled(store, 2, session_id) for session_id in ids))
    pages = await asyncio.gather(*(store.turns(session_id, 5) for session_id in ids))
    assert all(len(page) == 2 for page in pages)
