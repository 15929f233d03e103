"""The page's view of the real service: streams, stops, replaces and finds again."""

from __future__ import annotations

import pytest

from local.page.ports import Delta, Event, Exchange, Override, Started
from local.page.service_port import ServicePort
from openchatkit.errors import InvalidRequest, SessionNotFound
from tests.house import House


async def ask(
    port: ServicePort, text: str, session: str | None = None, replace: int | None = None
) -> Exchange:
    events: list[Event] = [event async for event in port.ask(text, session, replace)]
    last = events[-1]
    assert isinstance(events[0], Started)
    assert isinstance(last, Exchange)
    assert all(isinstance(event, Delta) for event in events[1:-1])
    return last


async def test_a_turn_and_its_passage(house: House) -> None:
    port = ServicePort(house.service)
    house.engine.replies = ["Revenue was 4.1 billion. [1]"]
    shown = await ask(port, "What was revenue?")
    assert (shown.turn, shown.bot) == (1, "Revenue was 4.1 billion. [1]")
    passage = await port.passage(shown.session_id, 1, 1)
    assert passage is not None
    assert passage.text == "Revenue was 4.1 billion."
    assert await port.passage(shown.session_id, 1, 2) is None
    assert await port.passage(shown.session_id, 7, 1) is None
    (stored,) = await port.history(shown.session_id) or []
    assert (stored.human, stored.bot, stored.citations) == (shown.human, shown.bot, shown.citations)


async def test_replace_list_rename_rate_delete(house: House) -> None:
    port = ServicePort(house.service)
    house.engine.replies = ["One.", "Two.", "Three."]
    session = (await ask(port, "first")).session_id
    await ask(port, "second", session)
    assert (await ask(port, "edited", session, 1)).turn == 1
    assert [turn.human for turn in await port.history(session) or []] == ["edited"]
    await port.rename(session, "n" * 500)
    (entry,) = (await port.sessions(10, None)).entries
    assert entry.title == "n" * 200
    await port.feedback(session, 1, "up", "")
    assert [turn.rating for turn in await port.history(session) or []] == ["up"]
    await port.feedback(session, 1, None, "")
    assert [turn.rating for turn in await port.history(session) or []] == [None]
    await port.delete(session)
    await port.delete(session)
    assert await port.history(session) is None


async def test_another_users_conversations_do_not_exist(house: House) -> None:
    house.engine.replies = ["One."]
    session = (await ask(ServicePort(house.service), "mine")).session_id
    other = ServicePort(house.service, "other")
    assert await other.history(session) is None
    assert (await other.sessions(10, None)).entries == ()
    with pytest.raises(SessionNotFound):
        await other.passage(session, 1, 1)


async def test_an_override_names_its_direction(house: House) -> None:
    port = ServicePort(house.service)
    house.moderator.rule = lambda human, bot: "needs intervention" if "bad" in human else "casual"
    assert (await ask(port, "something bad")).override == Override("input", "needs intervention")
    house.moderator.rule = lambda human, bot: "needs intervention" if bot else "casual"
    house.engine.replies = ["Nasty."]
    shown = await ask(port, "fine")
    assert shown.override == Override("output", "needs intervention")
    (stored,) = await port.history(shown.session_id) or []
    assert stored.override == shown.override


async def test_a_text_that_the_wire_refuses(house: House) -> None:
    with pytest.raises(InvalidRequest, match="inputs"):
        await ask(ServicePort(house.service), "  ")
