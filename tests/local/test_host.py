"""The container's own endpoints, OpenAI's, and errors in the wire's shape."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from openai import APIStatusError, OpenAI

from local.host import create_app
from openchatkit.errors import EngineFailed
from openchatkit.invocations import Invocations
from tests.fakes import RuleModerator
from tests.house import House
from tests.local.live import FakeInvocations, LiveHost, Payload, serving


def fetch(url: str, body: bytes | None = None, method: str | None = None) -> tuple[int, str, bytes]:
    request = urllib.request.Request(url, body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.headers["Content-Type"], response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read()


def test_ping(host: LiveHost) -> None:
    assert fetch(f"{host.url}/ping") == (200, "application/json", b'{"model":{"status":"Healthy"}}')


def test_a_host_that_loads_is_not_healthy_yet() -> None:
    with serving(None) as loading:
        status, _, body = fetch(f"{loading.url}/ping")
        assert (status, json.loads(body)) == (503, {"model": {"status": "Loading"}})
        status, _, body = fetch(f"{loading.url}/invocations", b"{}")
        assert (status, json.loads(body)["code"]) == (503, 503)
        assert "still loading" in json.loads(body)["error"]


def test_a_plain_answer(host: LiveHost, fake: FakeInvocations, payload: Payload) -> None:
    status, content_type, body = fetch(f"{host.url}/invocations", payload("hi"))
    assert (status, content_type, json.loads(body)) == (200, "application/json", {"generated_text": "hi"})


def test_a_streamed_answer_is_lines_with_heartbeats(
    host: LiveHost, fake: FakeInvocations, payload: Payload
) -> None:
    status, content_type, body = fetch(f"{host.url}/invocations", payload("a ü", stream=True))
    assert (status, content_type) == (200, "application/jsonlines")
    assert body.split(b"\n") == [
        b'{"token":{"text":""}}',
        b'{"token": {"text": "a"}}',
        b"",
        '{"token": {"text": "ü"}}'.encode(),
        b"",
        b"",
    ]
    assert fake.closed.wait(1)


def test_a_stream_that_breaks_ends_with_an_error_line(
    host: LiveHost, payload: Payload, caplog: pytest.LogCaptureFixture
) -> None:
    _, _, body = fetch(f"{host.url}/invocations", payload("break", stream=True))
    assert json.loads(body.splitlines()[-1])["code"] == 500
    assert b"canary-text" not in body
    assert "RuntimeError" in caplog.text
    assert "canary-text" not in caplog.text


def test_an_unforeseen_exception_is_a_500_without_its_message(
    host: LiveHost, payload: Payload, caplog: pytest.LogCaptureFixture
) -> None:
    status, content_type, body = fetch(f"{host.url}/invocations", payload("unforeseen"))
    assert (status, content_type) == (500, "application/json")
    assert json.loads(body) == {
        "error": "engine_failed: the request failed for a reason of ours",
        "code": 500,
    }
    assert "canary-text" not in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/endpoints/x/invocations/", 404, "not_found"),
        ("GET", "/endpoints/x/y/invocations", 404, "not_found"),
        ("GET", "/invocations", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
    ],
)
def test_errors_of_the_router_have_the_wires_shape(
    host: LiveHost, method: str, path: str, status: int, code: str
) -> None:
    answered, content_type, body = fetch(host.url + path, method=method)
    assert (answered, content_type) == (status, "application/json")
    assert json.loads(body)["error"].startswith(f"{code}: ")
    assert json.loads(body)["code"] == status


def test_no_page_of_fastapi_that_loads_scripts_from_elsewhere(host: LiveHost) -> None:
    assert fetch(f"{host.url}/docs")[0] == 404
    assert fetch(f"{host.url}/redoc")[0] == 404


# --- OpenAI's client, against the real invocations ---------------------------------------------


@pytest.fixture
def live_house(tmp_path: Path) -> Iterator[tuple[House, LiveHost]]:
    house = House(tmp_path)
    with serving(create_app(Invocations(house.service, model_name="tiny"), model_name="tiny")) as live:
        yield house, live
    asyncio.run(house.service.close())


@pytest.fixture
def openai(live_house: tuple[House, LiveHost]) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{live_house[1].url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_openai_lists_the_one_model(openai: OpenAI) -> None:
    assert [model.id for model in openai.models.list()] == ["tiny"]


def test_openai_chat_completions(live_house: tuple[House, LiveHost], openai: OpenAI) -> None:
    live_house[0].engine.replies = ["Revenue was 4.1 billion. [1]"]
    completion = openai.chat.completions.create(
        model="tiny",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What was revenue?"},
        ],
    )
    assert completion.choices[0].message.content == "Revenue was 4.1 billion. [1]"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 5


def test_openai_chat_completions_streamed(live_house: tuple[House, LiveHost], openai: OpenAI) -> None:
    live_house[0].engine.replies = ["Über 4.1 billion. [1]"]
    with openai.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "What was revenue?"}],
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Über 4.1 billion. [1]"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None


def test_openai_sees_moderation_as_its_content_filter(
    live_house: tuple[House, LiveHost], openai: OpenAI
) -> None:
    live_house[0].moderator.rule = RuleModerator(lambda human, bot: "needs intervention").rule
    completion = openai.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "bad"}])
    assert completion.choices[0].finish_reason == "content_filter"


def test_openai_gets_a_refusal_as_its_own_exception(openai: OpenAI) -> None:
    with pytest.raises(APIStatusError) as caught:
        openai.chat.completions.create(model="tiny", messages=[{"role": "user", "content": " "}])
    assert caught.value.status_code == 400
    assert "messages.0.content" in str(caught.value)


def test_openai_gets_a_failure_in_mid_stream(live_house: tuple[House, LiveHost], openai: OpenAI) -> None:
    live_house[0].engine.replies = [EngineFailed("the model could not go on")]
    with (
        openai.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "What?"}], stream=True
        ) as stream,
        pytest.raises(Exception, match="the model could not go on"),
    ):
        list(stream)


# --- a client that leaves, down to the engine --------------------------------------------------

TOKEN_S = 0.05


@pytest.mark.parametrize("streamed", [True, False])
def test_the_engine_is_freed_within_two_tokens(
    live_house: tuple[House, LiveHost], payload: Payload, streamed: bool
) -> None:
    house, host = live_house
    house.engine.delay_s = TOKEN_S
    house.engine.replies = [" ".join(["word."] * 200)]
    body = payload("Go on", stream=streamed)
    with closing(socket.create_connection(("127.0.0.1", host.port), timeout=10)) as connection:
        head = f"POST /invocations HTTP/1.1\r\nHost: localhost:{host.port}\r\nContent-Length: {len(body)}"
        connection.sendall(f"{head}\r\n\r\n".encode() + body)
        wait_until(lambda: house.engine.generated >= 3)
    before = house.engine.generated
    wait_until(lambda: not house.engine.running)
    assert house.engine.generated - before <= 2


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
