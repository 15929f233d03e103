"""The turn end to end over real storage, with a queued engine and ruled moderation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openchatkit import wire
from openchatkit.errors import (
    Conflict,
    EngineFailed,
    InvalidRequest,
    ModerationUnavailable,
    OpenChatKitError,
    Overloaded,
    SessionNotFound,
    TurnTimeout,
)
from openchatkit.ports import UNTITLED
from tests.fakes import ListRetriever, PhraseGuard, QueuedEngine
from tests.house import House, settled

CANARY = "canary-7f3a"


# --- the turn ------------------------------------------------------------------------------------


async def test_an_answer_with_its_citation_is_what_is_stored(house: House) -> None:
    house.engine.replies = ["Revenue was 4.1 billion. [1] [8]"]
    reply = await house.ask("What was revenue?")
    assert reply.generated_text == "Revenue was 4.1 billion. [1]"
    details = reply.details
    assert details.finish_reason == "stop"
    assert details.turn == 1
    assert [(one.number, one.id, one.text) for one in details.citations] == [
        (1, "report.md#1", "Revenue was 4.1 billion.")
    ]
    assert details.moderation.input is not None
    assert details.moderation.output is not None
    assert details.usage.completion_tokens == 6
    assert details.timings.total > 0
    (stored,) = await house.history(details.session_id)
    assert (stored.human, stored.bot) == ("What was revenue?", reply.generated_text)
    assert stored.citations == details.citations


async def test_turn_two_sees_turn_one_and_searches_with_it(house: House) -> None:
    house.engine.replies = ["It was 4.1 billion. [1]", "Smaller."]
    first = await house.ask("What was revenue?")
    second = await house.ask("And its debt?", session_id=first.details.session_id)
    assert second.details.turn == 2
    prompt = house.engine.prompts[1]
    assert prompt.index("<human>: What was revenue?\n<bot>: It was 4.1 billion. [1]") > 0
    assert prompt.endswith("<human>: And its debt?\n<bot>:")
    assert house.retriever is not None
    assert house.retriever.asked[1] == ["And its debt?", "What was revenue? And its debt?"]


async def test_a_stream_is_started_texts_reply(house: House) -> None:
    house.engine.replies = ["One two three."]
    events = [event async for event in house.service.stream(wire.ChatRequest(inputs="q", stream=True))]
    assert isinstance(events[0], wire.Started)
    assert isinstance(events[-1], wire.Reply)
    texts = [event for event in events[1:-1] if isinstance(event, str)]
    assert len(texts) == len(events) - 2
    assert "".join(texts) == events[-1].generated_text == "One two three."


async def test_retrieval_that_fails_degrades_and_says_so(house: House) -> None:
    house.retriever = ListRetriever((), {"documents": "timeout"})
    house.engine.replies = ["I do not know."]
    reply = await house.ask("q")
    assert reply.details.retrieval.failures == {"documents": "timeout"}
    assert reply.details.finish_reason == "stop"


async def test_retrieval_can_be_switched_off(house: House) -> None:
    house.engine.replies = ["Fine."]
    reply = await house.ask("q", retrieval=wire.RetrievalOptions(enabled=False))
    assert reply.details.retrieval == wire.RetrievalDetails(enabled=False)
    assert "Passages:" not in house.engine.prompts[0]


async def test_an_unknown_source_is_refused(house: House) -> None:
    with pytest.raises(InvalidRequest, match="unknown source web; known: documents"):
        await house.ask("q", retrieval=wire.RetrievalOptions(sources=["web"]))


async def test_out_of_domain_overrides_without_asking_the_model(house: House) -> None:
    house.guard = PhraseGuard("revenue")
    reply = await house.ask("Who won the match?")
    assert (reply.generated_text, reply.details.finish_reason) == ("Ask me about finance.", "out_of_domain")
    house.engine.replies = ["4.1 billion."]
    assert (await house.ask("What was revenue?")).details.finish_reason == "stop"


# --- moderation ----------------------------------------------------------------------------------


async def test_input_is_overridden_before_the_model_is_asked(house: House) -> None:
    house.moderator.rule = lambda human, bot: "needs intervention" if "bad" in human else "casual"
    reply = await house.ask("something bad")
    assert reply.details.finish_reason == "moderated"
    assert house.engine.prompts == []
    (stored,) = await house.history(reply.details.session_id)
    assert stored.bot == reply.generated_text != ""
    assert stored.moderation.input is not None
    assert stored.moderation.input.label == "needs intervention"


async def test_a_blocked_window_replaces_the_rest(house: House) -> None:
    house.moderator.rule = lambda human, bot: "needs intervention" if bot and "poison" in bot else "casual"
    house.engine.replies = ["First a harmless sentence. Then some poison follows. And more of it."]
    house.engine.delay_s = 0.002
    reply = await house.ask("q")
    assert reply.details.finish_reason == "moderated"
    assert "poison" not in reply.generated_text
    assert reply.details.moderation.output is not None
    assert reply.details.moderation.output.label == "needs intervention"
    await settled(lambda: not house.engine.running)
    (stored,) = await house.history(reply.details.session_id)
    assert stored.bot == reply.generated_text


@pytest.mark.parametrize("direction", ["input", "output"])
async def test_moderation_fails_closed(house: House, direction: str) -> None:
    def rule(human: str, bot: str | None) -> str:
        if (bot is None) == (direction == "input"):
            raise ModerationUnavailable("the judge is down")
        return "casual"

    house.moderator.rule = rule
    house.engine.replies = ["Something unjudged."]
    released = []
    with pytest.raises(ModerationUnavailable):
        async for event in house.service.stream(wire.ChatRequest(inputs="q")):
            released.append(event)
    assert not any(isinstance(event, str) for event in released)
    started = released[0]
    assert isinstance(started, wire.Started)
    assert await house.history(started.session_id) == []


async def test_switching_moderation_off_needs_the_settings(house: House) -> None:
    with pytest.raises(InvalidRequest, match=r"moderation\.output"):
        await house.ask("q", moderation=wire.ModerationOptions(output=False))


async def test_switched_off_moderation_is_not_asked(house: House) -> None:
    house.settings["moderation_may_be_disabled"] = True
    house.engine.replies = ["Fine."]
    off = wire.ModerationOptions(input=False, output=False)
    reply = await house.ask("q", moderation=off)
    assert house.moderator.judged == []
    assert reply.details.moderation == wire.ModerationDetails()


# --- stopping ------------------------------------------------------------------------------------


async def test_leaving_frees_the_engine_and_stores_what_was_delivered(house: House) -> None:
    house.engine.replies = ["word. " * 500]
    house.engine.delay_s = 0.002
    seen = ""
    session_id = None
    events = house.service.stream(wire.ChatRequest(inputs="q"))
    async for event in events:
        if isinstance(event, wire.Started):
            session_id = event.session_id
        if isinstance(event, str):
            seen += event
            break
    generated = house.engine.generated
    await events.aclose()
    assert not house.engine.running
    assert house.engine.generated - generated <= 2
    (stored,) = await house.history(session_id)
    assert (stored.bot, stored.finish_reason) == (seen, "cancelled")


async def test_cancel_ends_the_stream_and_a_new_turn_can_begin(house: House) -> None:
    house.engine.replies = ["word. " * 500, "Again."]
    house.engine.delay_s = 0.002
    events = house.service.stream(wire.ChatRequest(inputs="q"))
    session_id, last = None, None
    async for last in events:
        if isinstance(last, wire.Started):
            session_id = last.session_id
        elif isinstance(last, str):
            assert session_id is not None
            cancelled = await house.service.cancel(
                wire.CancelRequest(requestType="CANCEL", session_id=session_id)
            )
            assert cancelled.cancelled
    assert isinstance(last, wire.Reply)
    assert last.details.finish_reason == "cancelled"
    (stored,) = await house.history(session_id)
    assert stored.bot == last.generated_text
    second = await house.ask("q2", session_id=session_id)
    assert second.details.turn == 2


async def test_a_cancel_mark_from_another_instance_stops_the_turn(house: House, tmp_path: Path) -> None:
    house.engine.replies = ["word. " * 5000]
    house.engine.delay_s = 0.002
    elsewhere = House(tmp_path)
    session_id, last = None, None
    async for last in house.service.stream(wire.ChatRequest(inputs="q")):
        if isinstance(last, wire.Started):
            session_id = last.session_id
            assert session_id is not None
            request = wire.CancelRequest(requestType="CANCEL", session_id=session_id)
            assert not (await elsewhere.service.cancel(request)).cancelled
    assert isinstance(last, wire.Reply)
    assert last.details.finish_reason == "cancelled"
    assert house.engine.generated < 2000
    await elsewhere.service.close()


async def test_a_turn_past_its_time_ends_with_timeout_and_frees_the_engine(house: House) -> None:
    house.settings["turn_timeout_s"] = 0.1
    house.engine.replies = ["word. " * 5000]
    house.engine.delay_s = 0.01
    with pytest.raises(TurnTimeout):
        await house.ask("q")
    await settled(lambda: not house.engine.running)


async def test_a_whole_answer_may_have_less_time_than_a_streamed_one(house: House) -> None:
    house.settings |= {"turn_timeout_s": 60, "reply_timeout_s": 0.1}
    house.engine.replies = ["word. " * 5000, "word. " * 20]
    house.engine.delay_s = 0.02
    with pytest.raises(TurnTimeout, match=r"0\.1 s"):
        await house.ask("q")
    await settled(lambda: not house.engine.running)
    events = [event async for event in house.service.stream(wire.ChatRequest(inputs="q"))]
    assert isinstance(events[-1], wire.Reply)


# --- who may, and who is first -------------------------------------------------------------------


async def test_another_owner_sees_no_session(house: House) -> None:
    house.engine.replies = ["Mine."]
    mine = (await house.ask("q", user_id="ann")).details.session_id
    assert mine is not None
    requests: list[Callable[[], Any]] = [
        lambda: house.ask("q", session_id=mine, user_id="bob"),
        lambda: house.history(mine, "bob"),
        lambda: house.service.cancel(
            wire.CancelRequest(requestType="CANCEL", session_id=mine, user_id="bob")
        ),
        lambda: house.service.delete(
            wire.DeleteRequest(requestType="DELETE", session_id=mine, user_id="bob")
        ),
        lambda: house.service.rename(
            wire.RenameRequest(requestType="RENAME", session_id=mine, user_id="bob", title="x")
        ),
        lambda: house.service.feedback(
            wire.FeedbackRequest(requestType="FEEDBACK", session_id=mine, user_id="bob", turn=1, rating="up")
        ),
        lambda: house.service.close_session(
            wire.CloseRequest(requestType="CLOSE", session_id=mine, user_id="bob")
        ),
    ]
    for attempt in requests:
        with pytest.raises(SessionNotFound):
            await attempt()
    bobs = await house.service.sessions(wire.SessionsRequest(requestType="SESSIONS", user_id="bob"))
    assert bobs.sessions == []
    assert len(await house.history(mine, "ann")) == 1


async def test_two_turns_of_a_session_at_once_one_conflicts(house: House) -> None:
    house.engine.replies = ["First.", "a b c d", "e f g h"]
    house.engine.delay_s = 0.01
    session_id = (await house.ask("q")).details.session_id
    outcomes = await asyncio.gather(
        *(house.ask(f"at once {n}", session_id=session_id) for n in range(2)), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in outcomes) == ["Conflict", "Reply"]
    assert [turn.turn for turn in await house.history(session_id)] == [1, 2]


async def test_two_instances_writing_one_turn_one_conflicts(house: House, tmp_path: Path) -> None:
    house.engine.replies = ["First.", "a b c d"]
    house.engine.delay_s = 0.01
    session_id = (await house.ask("q")).details.session_id
    other = House(tmp_path)
    other.engine = QueuedEngine(["e f g h"], delay_s=0.01)
    outcomes = await asyncio.gather(
        house.ask("here", session_id=session_id),
        other.ask("there", session_id=session_id),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in outcomes) == ["Conflict", "Reply"]
    winner = next(one for one in outcomes if isinstance(one, wire.Reply))
    assert [turn.bot for turn in await house.history(session_id)] == ["First.", winner.generated_text]
    assert any(isinstance(one, Conflict) for one in outcomes)
    await other.service.close()


async def test_replacing_a_turn_drops_the_later_ones(house: House) -> None:
    house.engine.replies = ["One.", "Two.", "Three.", "Other."]
    session_id = (await house.ask("a")).details.session_id
    await house.ask("b", session_id=session_id)
    await house.ask("c", session_id=session_id)
    reply = await house.ask("b2", session_id=session_id, replace_turn=2)
    assert reply.details.turn == 2
    assert "Two." not in house.engine.prompts[3]
    assert [(turn.human, turn.bot) for turn in await house.history(session_id)] == [
        ("a", "One."),
        ("b2", "Other."),
    ]
    with pytest.raises(InvalidRequest, match="no turn 7"):
        await house.ask("x", session_id=session_id, replace_turn=7)


async def test_a_failed_replacement_loses_nothing(house: House) -> None:
    house.engine.replies = ["One.", EngineFailed("broken")]
    session_id = (await house.ask("a")).details.session_id
    with pytest.raises(EngineFailed):
        await house.ask("a2", session_id=session_id, replace_turn=1)
    assert [turn.bot for turn in await house.history(session_id)] == ["One."]


async def test_too_many_turns_at_once_are_refused(house: House) -> None:
    house.settings["max_concurrent_turns"] = 2
    house.engine.replies = ["a b c d e f"] * 3
    house.engine.delay_s = 0.02
    outcomes: list[Any] = []

    async def later() -> None:
        await asyncio.sleep(0.03)
        outcomes.append(await asyncio.gather(house.ask("third"), return_exceptions=True))

    await asyncio.gather(house.ask("one"), house.ask("two"), later())
    assert isinstance(outcomes[0][0], Overloaded)
    assert (await house.ask("after")).details.finish_reason == "stop"


# --- around turns --------------------------------------------------------------------------------


async def test_feedback_rename_delete_and_lists(house: House) -> None:
    house.engine.replies = ["One.", "Two."]
    session_id = (await house.ask("a  first\nquestion")).details.session_id
    assert session_id is not None
    service = house.service
    await service.feedback(
        wire.FeedbackRequest(requestType="FEEDBACK", session_id=session_id, turn=1, rating="down")
    )
    assert (await house.history(session_id))[0].feedback == "down"
    with pytest.raises(InvalidRequest, match="no turn 5"):
        await service.feedback(
            wire.FeedbackRequest(requestType="FEEDBACK", session_id=session_id, turn=5, rating="up")
        )
    listed = await service.sessions(wire.SessionsRequest(requestType="SESSIONS"))
    assert [one.title for one in listed.sessions] == ["a first question"]
    await service.rename(wire.RenameRequest(requestType="RENAME", session_id=session_id, title="Mine"))
    listed = await service.sessions(wire.SessionsRequest(requestType="SESSIONS"))
    assert [one.title for one in listed.sessions] == ["Mine"]
    await service.delete(wire.DeleteRequest(requestType="DELETE", session_id=session_id))
    with pytest.raises(SessionNotFound):
        await house.history(session_id)


async def test_a_new_session_takes_its_title_from_the_first_question(house: House) -> None:
    opened = await house.service.new_session(wire.NewSessionRequest(requestType="NEW_SESSION"))
    house.engine.replies = ["Hi."]
    await house.ask("Hello there", session_id=opened.session_id)
    listed = await house.service.sessions(wire.SessionsRequest(requestType="SESSIONS"))
    assert [one.title for one in listed.sessions] == ["Hello there"]


@pytest.mark.parametrize(
    ("reply", "error"), [(EngineFailed("broken"), EngineFailed), (ValueError("odd"), EngineFailed)]
)
async def test_a_session_whose_first_turn_failed_is_not_listed(
    house: House, reply: Exception, error: type[Exception]
) -> None:
    house.engine.replies = [reply, "Hi."]
    session_id = None
    with pytest.raises(error):
        async for event in house.service.stream(wire.ChatRequest(inputs="Hello there")):
            assert isinstance(event, wire.Started)
            session_id = event.session_id
    everyones = wire.SessionsRequest(requestType="SESSIONS")
    assert (await house.service.sessions(everyones)).sessions == []
    assert session_id is not None
    kept = await house.store.session(session_id)
    assert kept is not None
    assert kept.title == UNTITLED  # nothing that was said
    # Whoever learned the id from the stream may ask again.
    assert (await house.ask("Hello again", session_id=session_id)).details.turn == 1
    (listed,) = (await house.service.sessions(everyones)).sessions
    assert (listed.session_id, listed.title) == (session_id, "Hello again")


async def test_a_session_whose_first_turn_was_stopped_is_listed(house: House) -> None:
    house.engine.replies = ["word. " * 500]
    house.engine.delay_s = 0.002
    events = house.service.stream(wire.ChatRequest(inputs="Hello there"))
    async for event in events:
        if isinstance(event, str):
            break
    await events.aclose()
    (listed,) = (await house.service.sessions(wire.SessionsRequest(requestType="SESSIONS"))).sessions
    assert listed.title == "Hello there"


async def test_a_session_that_was_opened_stays_when_its_first_turn_fails(house: House) -> None:
    opened = await house.service.new_session(wire.NewSessionRequest(requestType="NEW_SESSION"))
    house.engine.replies = [EngineFailed("broken")]
    with pytest.raises(EngineFailed):
        await house.ask("Hello there", session_id=opened.session_id)
    (listed,) = (await house.service.sessions(wire.SessionsRequest(requestType="SESSIONS"))).sessions
    assert listed.session_id == opened.session_id


async def test_history_pages(house: House) -> None:
    house.engine.replies = [f"reply {n}" for n in range(5)]
    session_id = (await house.ask("q0")).details.session_id
    assert session_id is not None
    for n in range(1, 5):
        await house.ask(f"q{n}", session_id=session_id)
    page = await house.service.history(
        wire.HistoryRequest(requestType="HISTORY", session_id=session_id, limit=2)
    )
    assert ([turn.turn for turn in page.turns], page.more) == ([4, 5], True)
    page = await house.service.history(
        wire.HistoryRequest(requestType="HISTORY", session_id=session_id, limit=3, before=4)
    )
    assert ([turn.turn for turn in page.turns], page.more) == ([1, 2, 3], False)


async def test_messages_are_stateless(house: House) -> None:
    house.engine.replies = ["Fine. [1]"]
    request = wire.MessagesRequest.model_validate(
        {
            "messages": [
                {"role": "system", "content": "Answer in French."},
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Bonjour"},
                {"role": "user", "content": [{"type": "text", "text": "And revenue?"}]},
            ],
            "temperature": 0,
            "max_tokens": 7,
        }
    )
    reply = await house.service.reply(request)
    assert reply.details.session_id is None
    prompt = house.engine.prompts[0]
    assert "Answer in French." in prompt.split("\n")[0]
    assert "<human>: Hello\n<bot>: Bonjour" in prompt
    assert prompt.endswith("<human>: And revenue?\n<bot>:")
    assert house.engine.parameters[0].max_new_tokens == 7
    listed = await house.service.sessions(wire.SessionsRequest(requestType="SESSIONS"))
    assert listed.sessions == []


async def test_moderate_judges_each_text(house: House) -> None:
    house.moderator.rule = lambda human, bot: "needs caution" if "x" in human else "casual"
    judged = await house.service.moderate(wire.ModerateRequest(requestType="MODERATE", inputs=["x", "y"]))
    assert [one.label for one in judged.verdicts] == ["needs caution", "casual"]


async def test_no_text_reaches_the_log(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    house.engine.replies = [f"{CANARY} answer", ValueError(CANARY)]
    await house.ask(f"{CANARY} question")
    with pytest.raises(OpenChatKitError) as caught:
        await house.ask(f"{CANARY} question")
    assert CANARY not in str(caught.value)
    assert "turn request_id=" in caplog.text
    assert CANARY not in caplog.text
