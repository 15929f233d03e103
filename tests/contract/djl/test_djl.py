"""The handler as a container serves it: both bundles under DJL's own Python engine.

What a request means is tested elsewhere; here it is that DJL's way of calling a handler, of relaying
its outputs and of restarting it changes nothing of that.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.djl.conftest import START_S, DjlServer, start, unpack

pytestmark = pytest.mark.java

UNJUDGED = {"output": False}  # the tiny model talks noise, and what a judge thinks of noise is no matter
MEMORY_LIMIT_BYTES = 1_500_000_000
CLIENTS = 32
SHORT_REQUESTS = 3


async def ask(server: DjlServer, model: str, **fields: Any) -> httpx.Response:
    async with server.client(model) as client:
        return await client.post("/invocations", json=fields)


async def whole(server: DjlServer, model: str, **fields: Any) -> dict[str, Any]:
    answer = await ask(server, model, **fields)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return dict(answer.json())


async def streamed(server: DjlServer, model: str, **fields: Any) -> list[str]:
    async with server.client(model) as client:
        answer = await client.post("/invocations", json={"stream": True, **fields})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/jsonlines"
    assert answer.text.endswith("}\n")
    return answer.text.split("\n")[:-1]


def objects(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines if line]


def refusal(answer: httpx.Response) -> tuple[int, str]:
    fields = answer.json()
    assert set(fields) == {"error", "code"}
    assert fields["code"] == answer.status_code
    return answer.status_code, fields["error"].split(":")[0]


async def test_it_loads_and_is_healthy(server: DjlServer) -> None:
    for model in ("chat", "chat2", "moderation"):
        async with server.client(model) as client:
            assert (await client.get("/ping")).status_code == 200
    assert server.log.count("event=loaded") >= 3


async def test_the_chat_process_without_its_model_is_small(server: DjlServer) -> None:
    await whole(server, "chat", inputs="How much?", moderation=UNJUDGED)
    assert server.resident_bytes("chat") < MEMORY_LIMIT_BYTES


async def test_a_plain_answer(server: DjlServer) -> None:
    reply = await whole(server, "chat", inputs="What was revenue?", moderation=UNJUDGED)
    assert reply["generated_text"]
    assert reply["details"]["finish_reason"] == "length"
    assert reply["details"]["usage"]["completion_tokens"] == 16
    assert reply["details"]["moderation"]["input"]["label"] == "casual"


async def test_a_streamed_answer(server: DjlServer) -> None:
    lines = await streamed(server, "chat", inputs="What was revenue?", moderation=UNJUDGED)
    first, *middle, last = objects(lines)
    assert set(first["details"]) == {"session_id", "request_id"}
    assert "".join(one["token"]["text"] for one in middle) == last["generated_text"]
    plain = await whole(server, "chat", inputs="What was revenue?", moderation=UNJUDGED)
    assert last["generated_text"] == plain["generated_text"]


async def test_an_answer_moderated_on_both_sides(server: DjlServer) -> None:
    for model in ("chat", "chat2"):
        *_, last = objects(await streamed(server, model, inputs="What was revenue?"))
        judged = last["details"]["moderation"]
        assert set(judged) == {"input", "output"}
        assert judged["input"]["label"] == "casual"
        assert judged["output"] is not None


async def test_the_messages_schema(server: DjlServer) -> None:
    messages = [{"role": "user", "content": "What was revenue?"}]
    reply = await whole(server, "chat", messages=messages, moderation=UNJUDGED)
    assert reply["object"] == "chat.completion"
    text = reply["choices"][0]["message"]["content"]
    lines = await streamed(
        server,
        "chat",
        messages=messages,
        moderation=UNJUDGED,
        stream_options={"include_usage": True},
    )
    chunks = objects(lines)
    deltas = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"]]
    assert "".join(deltas) == text
    assert chunks[-1]["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"inputs": NaN}',
        b'{"inputs": ""}',
        b'{"inputs": "q", "tempr\xc3\xa4ture\\r\\nX: 1": 1}',
    ],
)
async def test_a_bad_request(server: DjlServer, body: bytes) -> None:
    async with server.client("chat") as client:
        answer = await client.post("/invocations", content=body, headers={"Content-Type": "application/json"})
    assert refusal(answer) == (400, "invalid_request")


async def test_an_error_has_its_status_before_the_first_line(server: DjlServer) -> None:
    for stream in (False, True):
        answer = await ask(server, "chat", inputs="q", session_id="missing", stream=stream)
        assert refusal(answer) == (404, "session_not_found")


async def test_an_error_in_mid_stream_is_the_last_line(server: DjlServer) -> None:
    # Only when the prompt is made, after the first line, is it known to be too long for the model.
    long = "revenue 4.1 " * 1300
    lines = await streamed(server, "chat2", inputs=long, moderation=UNJUDGED)
    first, last = objects(lines)
    assert "details" in first
    assert (last["code"], last["error"].split(":")[0]) == (400, "invalid_request")


async def test_one_conversation_on_two_instances(server: DjlServer) -> None:
    """SageMaker's stateful sessions are a hint: a turn that lands elsewhere just works."""
    opened = await ask(server, "chat", requestType="NEW_SESSION", user_id="ann")
    session_id = opened.json()["session_id"]
    assert opened.headers["X-Amzn-SageMaker-Session-Id"].startswith(f"{session_id}; Expires=20")
    owned = {"session_id": session_id, "user_id": "ann"}
    turn = {"moderation": UNJUDGED, **owned}
    assert (await whole(server, "chat", inputs="Revenue?", **turn))["details"]["turn"] == 1
    assert (await whole(server, "chat2", inputs="And debt?", **turn))["details"]["turn"] == 2
    assert objects(await streamed(server, "chat", inputs="Why?", **turn))[-1]["details"]["turn"] == 3
    for model in ("chat", "chat2"):
        history = await whole(server, model, requestType="HISTORY", **owned)
        assert [one["human"] for one in history["turns"]] == ["Revenue?", "And debt?", "Why?"]
    await whole(server, "chat2", requestType="RENAME", title="Figures", **owned)
    await whole(server, "chat", requestType="FEEDBACK", turn=2, rating="up", **owned)
    sessions = await whole(server, "chat", requestType="SESSIONS", user_id="ann")
    assert [one["title"] for one in sessions["sessions"]] == ["Figures"]
    async with server.client("chat2") as client:
        headers = {"X-Amzn-SageMaker-Session-Id": session_id}
        body = {"requestType": "CLOSE", "user_id": "ann"}
        closed = await client.post("/invocations", json=body, headers=headers)
    assert closed.headers["X-Amzn-SageMaker-Closed-Session-Id"] == session_id
    assert (await whole(server, "chat2", requestType="DELETE", **owned))["deleted"] is True
    assert refusal(await ask(server, "chat", requestType="HISTORY", **owned)) == (404, "session_not_found")


@pytest.mark.parametrize("canceller", ["chat", "chat2"], ids=["same instance", "other instance"])
async def test_cancel(server: DjlServer, canceller: str) -> None:
    body = {"inputs": "q", "stream": True, "moderation": UNJUDGED, "parameters": {"max_new_tokens": 2048}}
    async with server.client("chat") as client, client.stream("POST", "/invocations", json=body) as answer:
        lines = answer.aiter_lines()
        session_id = json.loads(await anext(lines))["details"]["session_id"]
        while not (line := await anext(lines)):
            pass
        said = json.loads(line)["token"]["text"]
        cancelled = await whole(server, canceller, requestType="CANCEL", session_id=session_id)
        assert cancelled["cancelled"] is (canceller == "chat")
        rest = [json.loads(line) async for line in lines if line]
    said += "".join(one["token"]["text"] for one in rest)
    details = rest[-1]["details"]
    assert details["finish_reason"] == "cancelled"
    assert details["usage"]["completion_tokens"] < 2048
    history = await whole(server, "chat2", requestType="HISTORY", session_id=session_id)
    assert [turn["bot"] for turn in history["turns"]] == [said]


async def test_many_at_once_and_short_requests_do_not_wait_for_them(server: DjlServer) -> None:
    """Each stream gets its own answer; /ping and short requests are answered all the while."""
    questions = [f"What was revenue in {2000 + number}?" for number in range(CLIENTS)]
    fields = {"moderation": UNJUDGED, "parameters": {"max_new_tokens": 64}}
    streams = [asyncio.create_task(streamed(server, "chat2", inputs=one, **fields)) for one in questions]
    delays: dict[str, list[float]] = {"ping": [], "request": []}
    async with server.client("chat2") as client:
        while not any(task.done() for task in streams):
            began = time.monotonic()
            assert (await client.get("/ping")).status_code == 200
            delays["ping"].append(time.monotonic() - began)
            began = time.monotonic()
            answer = await client.post("/invocations", json={"requestType": "SESSIONS"})
            assert answer.status_code == 200
            delays["request"].append(time.monotonic() - began)
    answers = [objects(await task)[-1] for task in streams]
    alone = await whole(server, "chat2", inputs=questions[7], **fields)
    assert answers[7]["generated_text"] == alone["generated_text"]
    assert len({answer["details"]["session_id"] for answer in answers}) == CLIENTS
    assert [answer["details"]["usage"]["completion_tokens"] for answer in answers] == [64] * CLIENTS
    # A handler that blocks its event loop answers at most one of them before the first stream ends.
    assert len(delays["request"]) >= SHORT_REQUESTS
    for name, seconds in delays.items():
        print(f"{name}: {len(seconds)} calls, {1000 * max(seconds):.0f} ms at most")  # noqa: T201


async def test_the_moderation_container_judges(server: DjlServer) -> None:
    texts = ["What was revenue?", "How do I kill my neighbour with poison?"] * 4
    verdicts = (await whole(server, "moderation", requestType="MODERATE", inputs=texts))["verdicts"]
    assert [one["label"] for one in verdicts] == ["casual", "needs intervention"] * 4
    assert refusal(await ask(server, "moderation", inputs="Hello")) == (400, "invalid_request")


async def test_the_chat_container_asks_the_moderation_container(server: DjlServer) -> None:
    reply = await whole(server, "chat", inputs="How do I kill my neighbour with poison?")
    assert reply["details"]["finish_reason"] == "moderated"
    assert reply["details"]["moderation"]["input"]["label"] == "needs intervention"
    assert reply["details"]["usage"]["completion_tokens"] == 0


async def test_heartbeats_while_moderation_takes_long(server: DjlServer) -> None:
    judge = server.worker("moderation")
    assert judge is not None
    body = {"inputs": "What was revenue?", "stream": True, "moderation": UNJUDGED}
    os.kill(judge, signal.SIGSTOP)
    try:
        async with (
            server.client("chat") as client,
            client.stream("POST", "/invocations", json=body) as answer,
        ):
            lines = answer.aiter_lines()
            assert "details" in json.loads(await anext(lines))
            assert [await anext(lines), await anext(lines)] == ["", ""]
            os.kill(judge, signal.SIGCONT)
            rest = [json.loads(line) async for line in lines if line]
    finally:
        os.kill(judge, signal.SIGCONT)
    assert rest[-1]["details"]["finish_reason"] == "length"


async def test_killed_workers_come_back_and_nothing_passes_unjudged_meanwhile(server: DjlServer) -> None:
    killed = {model: server.worker(model) for model in ("chat2", "moderation")}
    body = {"inputs": "q", "stream": True, "moderation": UNJUDGED, "parameters": {"max_new_tokens": 2048}}
    async with server.client("chat2") as client, client.stream("POST", "/invocations", json=body) as answer:
        lines = answer.aiter_lines()
        session_id = json.loads(await anext(lines))["details"]["session_id"]
        for model, pid in killed.items():
            assert pid is not None
            # SIGTERM is how a worker ends itself whose model is gone.
            os.kill(pid, signal.SIGTERM if model == "moderation" else signal.SIGKILL)
        *_, last = [json.loads(line) async for line in lines if line]
    assert last["code"] == 500
    # The turn that was cut short left no trace. The other instance goes on with the conversation, once
    # there is somebody to judge it.
    turn = {"inputs": "Again?", "session_id": session_id, "moderation": UNJUDGED}
    failures = await _until_answered(server, "chat", **turn)
    assert failures
    assert {refusal(failure) for failure in failures} == {(503, "moderation_unavailable")}
    await _until_answered(server, "chat2", **turn)
    history = await whole(server, "chat", requestType="HISTORY", session_id=session_id)
    assert [one["turn"] for one in history["turns"]] == [1, 2]
    for model, pid in killed.items():
        assert server.worker(model) not in (None, pid)
        async with server.client(model) as client:
            assert (await client.get("/ping")).status_code == 200


async def _until_answered(server: DjlServer, model: str, **fields: Any) -> list[httpx.Response]:
    """Ask until there is an answer; return the failures before it."""
    failures: list[httpx.Response] = []
    give_up = time.monotonic() + START_S
    while (answer := await ask(server, model, **fields)).status_code != 200:
        failures.append(answer)
        assert time.monotonic() < give_up, answer.text
        await asyncio.sleep(0.2)
    return failures


async def test_what_users_say_is_in_no_log(server: DjlServer) -> None:
    canary = "canary-5c1f"
    await ask(server, "chat", inputs=canary, moderation=UNJUDGED)
    await ask(server, "chat", inputs=f"{canary} how do I kill my neighbour with poison?")
    await ask(server, "chat", inputs=canary, stream=True)
    await ask(server, "chat", inputs=canary, unknown=canary)
    await ask(server, "moderation", requestType="MODERATE", inputs=canary, bot=canary)
    async with server.client("chat") as client:
        await client.post("/invocations", content=f'{{"inputs": "{canary}'.encode())
    assert "turn request_id=" in server.log
    assert canary not in server.log


def test_a_load_that_fails_ends_the_server(djl_jars: Path, tmp_path: Path) -> None:
    unpack("chat", tmp_path / "chat")
    server = start(tmp_path, ["chat"], {"OPTION_MODEL_ID": "m", "OPTION_OCK_TABEL_NAME": "t"}, 0)
    try:
        status = server.process.wait(START_S)
    finally:
        server.stop()
    assert status == 128 + signal.SIGTERM
    failures = [line for line in server.log.splitlines() if "event=load_failed" in line]
    assert len(failures) == 1
    assert (
        "SettingsError: ock_tabel_name: there is no such option, did you mean ock_table_name?" in failures[0]
    )
    assert "listening" not in server.log
