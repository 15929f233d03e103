"""Bytes in, bytes out: both schemas, plain and streamed, and errors in the wire's one shape."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from openchatkit.errors import EngineFailed, ModerationUnavailable
from openchatkit.invocations import Answer, Invocations, JudgingInvocations, LastLine, StreamedAnswer
from openchatkit.judging import JudgingService
from openchatkit.settings import Settings
from tests.fakes import RuleModerator
from tests.house import House


@pytest.fixture
def invocations(house: House) -> Invocations:
    return Invocations(house.service)


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


async def whole(invocations: Invocations, **fields: Any) -> dict[str, Any]:
    answer = await invocations(body(**fields), {})
    assert isinstance(answer, Answer)
    assert answer.status == 200, answer.body
    return dict(json.loads(answer.body))


async def lines(answer: Answer | StreamedAnswer) -> list[Any]:
    assert isinstance(answer, StreamedAnswer)
    collected = [line async for line in answer.lines]
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in collected)
    return [json.loads(line) for line in collected]


async def test_a_plain_reply(house: House, invocations: Invocations) -> None:
    house.engine.replies = ["4.1 billion. [1]"]
    reply = await whole(invocations, inputs="Revenue?")
    assert reply["generated_text"] == "4.1 billion. [1]"
    assert set(reply["details"]) == {
        "session_id",
        "request_id",
        "turn",
        "finish_reason",
        "moderation",
        "citations",
        "retrieval",
        "usage",
        "timings",
    }
    assert reply["details"]["citations"][0]["title"] == "Report 1"


async def test_a_stream_is_json_lines(house: House, invocations: Invocations) -> None:
    house.engine.replies = ["One sentence here. Two sentences “here”."]
    answer = await invocations(body(inputs="q", stream=True), {})
    assert isinstance(answer, StreamedAnswer)
    assert answer.content_type == "application/jsonlines"
    first, *middle, last = await lines(answer)
    assert first["token"] == {"text": ""}
    assert set(first["details"]) == {"session_id", "request_id"}
    assert "".join(line["token"]["text"] for line in middle) == last["generated_text"]
    assert last["generated_text"] == "One sentence here. Two sentences “here”."
    assert last["token"] == {"text": ""}
    assert last["details"]["request_id"] == first["details"]["request_id"]


async def test_an_error_before_the_first_line_has_its_status(invocations: Invocations) -> None:
    for stream in (True, False):
        answer = await invocations(body(inputs="q", stream=stream, session_id="missing"), {})
        assert isinstance(answer, Answer)
        assert answer.status == 404
        assert json.loads(answer.body) == {
            "error": "session_not_found: there is no such session",
            "code": 404,
        }


async def test_an_error_in_mid_stream_is_the_last_line(house: House, invocations: Invocations) -> None:
    house.engine.replies = [EngineFailed("the model failed")]
    *_, last = await lines(await invocations(body(inputs="q", stream=True), {}))
    assert last == {"error": "engine_failed: the model failed", "code": 500}


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"inputs": ""}', b'{"requestType": "X"}'])
async def test_bad_requests(invocations: Invocations, data: bytes) -> None:
    answer = await invocations(data, {})
    assert isinstance(answer, Answer)
    assert answer.status == 400
    parsed = json.loads(answer.body)
    assert set(parsed) == {"error", "code"}
    assert parsed["error"].startswith("invalid_request: ")


async def test_the_life_of_a_session(house: House, invocations: Invocations) -> None:
    opened = await invocations(body(requestType="NEW_SESSION", user_id="ann"), {})
    assert isinstance(opened, Answer)
    session_id = json.loads(opened.body)["session_id"]
    assert opened.headers["X-Amzn-SageMaker-Session-Id"].startswith(f"{session_id}; Expires=20")
    house.engine.replies = ["Hello."]
    await whole(invocations, inputs="Hi", session_id=session_id, user_id="ann")
    owned = {"session_id": session_id, "user_id": "ann"}
    history = await whole(invocations, requestType="HISTORY", **owned)
    assert [turn["bot"] for turn in history["turns"]] == ["Hello."]
    assert history["more"] is False
    await whole(invocations, requestType="FEEDBACK", **owned, turn=1, rating="up", comment="good")
    await whole(invocations, requestType="RENAME", **owned, title="Greeting")
    sessions = await whole(invocations, requestType="SESSIONS", user_id="ann")
    assert [one["title"] for one in sessions["sessions"]] == ["Greeting"]
    assert (await whole(invocations, requestType="CANCEL", **owned))["cancelled"] is False
    closed = await invocations(body(requestType="CLOSE", **owned), {})
    assert isinstance(closed, Answer)
    assert closed.headers == {"X-Amzn-SageMaker-Closed-Session-Id": session_id}
    assert (await whole(invocations, requestType="DELETE", **owned))["deleted"] is True
    gone = await invocations(body(requestType="HISTORY", **owned), {})
    assert isinstance(gone, Answer)
    assert gone.status == 404


async def test_moderate(invocations: Invocations) -> None:
    judged = await whole(invocations, requestType="MODERATE", inputs=["a", "b"])
    assert [one["label"] for one in judged["verdicts"]] == ["casual", "casual"]
    assert set(judged["verdicts"][0]) == {"label", "scores", "harm", "category"}


MESSAGES = [{"role": "user", "content": "Revenue?"}]


async def test_the_chat_schema(house: House, invocations: Invocations) -> None:
    house.engine.replies = ["4.1 billion. [1]"]
    reply = await whole(invocations, messages=MESSAGES, model="any")
    assert reply["object"] == "chat.completion"
    assert reply["model"] == "any"
    assert reply["choices"][0]["message"] == {"role": "assistant", "content": "4.1 billion. [1]"}
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert reply["usage"]["total_tokens"] == sum(
        reply["usage"][name] for name in ("prompt_tokens", "completion_tokens")
    )


async def test_the_chat_schema_streams_json_lines(house: House, invocations: Invocations) -> None:
    house.engine.replies = ["One sentence here. Two sentences."]
    options = {"include_usage": True}
    answer = await invocations(body(messages=MESSAGES, stream=True, stream_options=options), {})
    chunks = await lines(answer)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == "One sentence here. Two sentences."
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["completion_tokens"] == 5


async def test_chat_completions_are_server_sent_events(house: House, invocations: Invocations) -> None:
    house.engine.replies = ["One."]
    answer = await invocations.chat_completions(body(messages=MESSAGES, stream=True), {})
    assert isinstance(answer, StreamedAnswer)
    assert answer.content_type == "text/event-stream"
    text = b"".join([line async for line in answer.lines]).decode()
    assert text.startswith("data: {")
    assert text.endswith("\n\ndata: [DONE]\n\n")


async def test_chat_completions_take_the_chat_schema_alone(invocations: Invocations) -> None:
    answer = await invocations.chat_completions(body(inputs="q"), {})
    assert isinstance(answer, Answer)
    assert (answer.status, json.loads(answer.body)["error"]) == (
        400,
        "invalid_request: messages: Field required",
    )


async def test_an_overridden_answer_is_a_content_filter_to_openai_clients(
    house: House, invocations: Invocations
) -> None:
    house.moderator.rule = lambda human, bot: "needs intervention"
    reply = await whole(invocations, messages=MESSAGES)
    assert reply["choices"][0]["finish_reason"] == "content_filter"


async def test_closing_the_lines_frees_the_engine(house: House, invocations: Invocations) -> None:
    house.engine.replies = ["word. " * 500]
    house.engine.delay_s = 0.002
    answer = await invocations(body(inputs="q", stream=True), {})
    assert isinstance(answer, StreamedAnswer)
    await anext(answer.lines)
    await anext(answer.lines)
    generated = house.engine.generated
    await answer.lines.aclose()
    assert not house.engine.running
    assert house.engine.generated - generated <= 2


async def test_lines_that_nobody_reads_free_the_engine(house: House, invocations: Invocations) -> None:
    """A host may lose its client before it takes the first line: dropping the answer is enough."""
    house.engine.replies = ["word. " * 5000]
    house.engine.delay_s = 0.002
    answer = await invocations(body(inputs="q", stream=True), {})
    await asyncio.sleep(0.05)
    assert house.engine.running
    del answer
    async with asyncio.timeout(2):
        while house.engine.running:
            await asyncio.sleep(0.005)


HEARTBEAT_S = 0.02


@pytest.mark.parametrize("request_fields", [{"inputs": "q"}, {"messages": MESSAGES}])
async def test_a_silent_stream_has_blank_lines(house: House, request_fields: dict[str, Any]) -> None:
    house.engine.replies = ["Late."]
    house.engine.delay_s = 0.3
    invocations = Invocations(house.service, heartbeat_s=HEARTBEAT_S)
    answer = await invocations(body(stream=True, **request_fields), {})
    assert isinstance(answer, StreamedAnswer)
    collected = [line async for line in answer.lines]
    assert collected.count(b"\n") >= 2
    assert all(json.loads(line) for line in collected if line != b"\n")
    assert b"Late." in b"".join(collected)


async def test_heartbeats_of_server_sent_events_are_comments(house: House) -> None:
    house.engine.replies = ["Late."]
    house.engine.delay_s = 0.3
    invocations = Invocations(house.service, heartbeat_s=HEARTBEAT_S)
    answer = await invocations.chat_completions(body(messages=MESSAGES, stream=True), {})
    assert isinstance(answer, StreamedAnswer)
    collected = [line async for line in answer.lines]
    assert b":\n\n" in collected
    assert all(line.startswith((b"data: ", b":")) for line in collected)


@pytest.mark.parametrize("failure", [None, EngineFailed("the model failed")])
@pytest.mark.parametrize(
    ("schema", "request_fields"),
    [
        ("__call__", {"inputs": "q"}),
        ("__call__", {"messages": MESSAGES}),
        ("__call__", {"messages": MESSAGES, "stream_options": {"include_usage": True}}),
        ("chat_completions", {"messages": MESSAGES}),
    ],
)
async def test_the_last_line_and_no_other_is_marked(
    house: House, schema: str, request_fields: dict[str, Any], failure: Exception | None
) -> None:
    house.engine.replies = [failure or "One sentence. Two sentences."]
    answer = await getattr(Invocations(house.service), schema)(body(stream=True, **request_fields), {})
    assert isinstance(answer, StreamedAnswer)
    collected = [line async for line in answer.lines]
    assert [isinstance(line, LastLine) for line in collected] == [False] * (len(collected) - 1) + [True]


async def test_a_stream_may_be_left_at_its_last_line(house: House, invocations: Invocations) -> None:
    house.engine.replies = ["Done."]
    answer = await invocations(body(inputs="q", stream=True), {})
    assert isinstance(answer, StreamedAnswer)
    async for line in answer.lines:
        if isinstance(line, LastLine):
            break
    await answer.lines.aclose()
    details = json.loads(line)["details"]
    assert [turn.bot for turn in await house.history(details["session_id"])] == ["Done."]


async def test_close_takes_the_session_of_sagemakers_header(invocations: Invocations) -> None:
    opened = await invocations(body(requestType="NEW_SESSION"), {})
    assert isinstance(opened, Answer)
    session_id = json.loads(opened.body)["session_id"]
    closed = await invocations(body(requestType="CLOSE"), {"x-amzn-SageMaker-session-ID": session_id})
    assert isinstance(closed, Answer)
    assert closed.headers == {"X-Amzn-SageMaker-Closed-Session-Id": session_id}


async def test_the_header_is_no_identity_to_any_other_request(house: House, invocations: Invocations) -> None:
    house.engine.replies = ["One.", "Two."]
    first = await whole(invocations, inputs="q")
    headers = {"X-Amzn-SageMaker-Session-Id": first["details"]["session_id"]}
    second = await invocations(body(inputs="q"), headers)
    assert isinstance(second, Answer)
    assert json.loads(second.body)["details"]["session_id"] != first["details"]["session_id"]


@pytest.fixture
def judging() -> tuple[RuleModerator, JudgingInvocations]:
    moderator = RuleModerator(lambda human, bot: "needs caution" if "!" in human else "casual")
    settings = Settings(role="moderation", max_concurrent_turns=2)
    return moderator, JudgingInvocations(JudgingService(settings=settings, moderator=moderator))


async def test_the_role_moderation_judges(judging: tuple[RuleModerator, JudgingInvocations]) -> None:
    moderator, invocations = judging
    texts = [f"text {number}" + "!" * (number % 2) for number in range(64)]
    answer = await invocations(body(requestType="MODERATE", inputs=texts), {})
    assert answer.status == 200
    labels = [one["label"] for one in json.loads(answer.body)["verdicts"]]
    assert labels == ["casual", "needs caution"] * 32
    answer = await invocations(body(requestType="MODERATE", inputs="human", bot="bot"), {})
    assert len(json.loads(answer.body)["verdicts"]) == 1
    assert moderator.judged[-1] == ("human", "bot")


async def test_the_role_moderation_does_nothing_else(
    judging: tuple[RuleModerator, JudgingInvocations],
) -> None:
    _, invocations = judging
    for request in (body(inputs="q"), body(messages=MESSAGES), body(requestType="SESSIONS"), b"{", b"[]"):
        answer = await invocations(request, {})
        assert (answer.status, json.loads(answer.body)["code"]) == (400, 400)
    assert (await invocations.chat_completions(body(messages=MESSAGES), {})).status == 400


async def test_one_text_that_cannot_be_judged_fails_the_request(
    judging: tuple[RuleModerator, JudgingInvocations],
) -> None:
    moderator, invocations = judging
    moderator.error = ModerationUnavailable("down")
    answer = await invocations(body(requestType="MODERATE", inputs=["a", "b"]), {})
    assert (answer.status, json.loads(answer.body)["error"]) == (503, "moderation_unavailable: down")


async def test_more_judgements_than_allowed_are_refused(
    judging: tuple[RuleModerator, JudgingInvocations],
) -> None:
    moderator, invocations = judging
    moderator.delay_s = 0.05
    answers = await asyncio.gather(
        *(invocations(body(requestType="MODERATE", inputs="a"), {}) for _ in range(5))
    )
    assert sorted(answer.status for answer in answers) == [200, 200, 503, 503, 503]
    assert (await invocations(body(requestType="MODERATE", inputs="a"), {})).status == 200
