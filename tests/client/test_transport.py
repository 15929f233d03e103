"""The transport: what leaves this machine, and what each failure is called."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from client.errors import CallFailed, NothingListens, Refused
from client.transport import Endpoint
from local.event_stream import model_stream_error, payload_parts
from tests.local.live import serving


class Recorder(http.server.BaseHTTPRequestHandler):
    """Answers each request with the next of `answers` and notes its headers."""

    seen: ClassVar[list[dict[str, str]]] = []
    answers: ClassVar[list[tuple[int, dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        self.seen.append({name.lower(): value for name, value in self.headers.items()})
        self.rfile.read(int(self.headers["Content-Length"]))
        status, headers, body = self.answers.pop(0)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def recorder() -> Iterator[str]:
    """The address of a server that plays the runtime API."""
    Recorder.seen.clear()
    Recorder.answers.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()
    assert not Recorder.answers


def answer(fields: Any, status: int = 200, **headers: str) -> None:
    Recorder.answers.append((status, headers, json.dumps(fields).encode()))


def stream(*pieces: bytes) -> None:
    Recorder.answers.append((200, {"Content-Type": "application/vnd.amazon.eventstream"}, b"".join(pieces)))


def test_the_local_host_gets_nothing_of_the_users_aws_set_up(
    recorder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIACANARY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-canary")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-canary")
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_REGION", "xx-nowhere-1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    answer({"session_id": "s"})
    assert Endpoint.local(recorder).invoke({"requestType": "NEW_SESSION"}) == {"session_id": "s"}
    assert "authorization" not in Recorder.seen[0]
    assert "canary" not in str(Recorder.seen).lower()


def test_a_call_is_not_repeated(recorder: str) -> None:
    """A turn that failed half-way may be stored: only the user knows whether to ask again."""
    answer({}, 500)
    with pytest.raises(CallFailed):
        Endpoint.local(recorder).invoke({"inputs": "hi"})
    assert len(Recorder.seen) == 1


def test_a_model_error_is_the_wires_error(recorder: str) -> None:
    original = json.dumps({"error": "conflict: somebody else wrote this turn", "code": 409})
    fields = {"Message": "m", "OriginalStatusCode": 409, "OriginalMessage": original}
    answer(fields, 424, **{"x-amzn-ErrorType": "ModelError"})
    with pytest.raises(Refused, match=r"^conflict: somebody else wrote this turn$"):
        Endpoint.local(recorder).invoke({"inputs": "hi"})


def test_a_model_error_of_another_model(recorder: str) -> None:
    fields = {"Message": "m", "OriginalStatusCode": 500, "OriginalMessage": "<html>canary</html>"}
    answer(fields, 424, **{"x-amzn-ErrorType": "ModelError"})
    with pytest.raises(CallFailed, match=r"^the endpoint failed with status 500$"):
        Endpoint.local(recorder).invoke({"inputs": "hi"})


def test_an_error_of_the_service_keeps_its_name(recorder: str) -> None:
    answer({"Message": "Endpoint x not found."}, 400, **{"x-amzn-ErrorType": "ValidationError"})
    with pytest.raises(CallFailed, match=r"^ValidationError: Endpoint x not found\.$"):
        Endpoint.local(recorder).stream({"inputs": "hi"})


def test_a_host_that_still_loads_says_so() -> None:
    with (
        serving(None) as loading,
        pytest.raises(CallFailed, match="ServiceUnavailable: the chatbot is still loading"),
    ):
        Endpoint.local(loading.url).stream({"inputs": "hi"})


def test_nothing_listens() -> None:
    with pytest.raises(NothingListens, match="make run"):
        Endpoint.local("http://127.0.0.1:9").invoke({"inputs": "hi"})


@pytest.mark.parametrize("url", ["nonsense", "http://", "http://host name/"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(CallFailed, match="not an address"):
        Endpoint.local(url)


def test_a_stream_is_put_together_across_parts(recorder: str) -> None:
    stream(*payload_parts(b'{"a": "\xc3'), *payload_parts(b'\xa4"}\n\n{"b"'), *payload_parts(b": 2}\n"))
    assert list(Endpoint.local(recorder).stream({"inputs": "hi"})) == [{"a": "ä"}, {"b": 2}]


def test_an_exception_in_the_stream(recorder: str) -> None:
    stream(*payload_parts(b'{"a": 1}\n'), model_stream_error("the container died", "StreamBroken"))
    events = iter(Endpoint.local(recorder).stream({"inputs": "hi"}))
    assert next(events) == {"a": 1}
    with pytest.raises(CallFailed, match="ModelStreamError: the container died"):
        next(events)


def test_a_damaged_stream(recorder: str) -> None:
    message = bytearray(next(payload_parts(b'{"a": 1}\n')))
    message[-1] ^= 1
    stream(bytes(message))
    with pytest.raises(CallFailed, match="broke off"):
        list(Endpoint.local(recorder).stream({"inputs": "hi"}))


def test_sagemaker_without_a_region_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(CallFailed, match="region"):
        Endpoint.sagemaker("name")


def test_sagemaker_with_an_unknown_profile_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(CallFailed, match="no-such-profile"):
        Endpoint.sagemaker("name", region="eu-west-1", profile="no-such-profile")
