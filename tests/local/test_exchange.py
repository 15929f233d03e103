"""Bodies within their limit; a client that leaves stops the work, whatever it waits for."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from openchatkit.wire import MAX_BODY_BYTES
from tests.local.live import FakeInvocations, LiveHost, Payload

PATHS = ["/invocations", "/endpoints/x/invocations", "/v1/chat/completions"]
STREAMED_PATHS = ["/invocations", "/endpoints/x/invocations-response-stream", "/v1/chat/completions"]
PROMPTLY_S = 0.5
"""Twenty times what it takes: the machine may be busy."""


@pytest.fixture
def wire(host: LiveHost) -> Iterator[socket.socket]:
    """A connection to the host, for requests byte by byte."""
    with closing(socket.create_connection(("127.0.0.1", host.port), timeout=10)) as connection:
        yield connection


def head(host: LiveHost, path: str, *fields: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{host.port}", *fields, "", ""]
    return "\r\n".join(lines).encode()


def post(wire: socket.socket, host: LiveHost, path: str, body: bytes) -> None:
    wire.sendall(head(host, path, f"Content-Length: {len(body)}") + body)


def status_of(wire: socket.socket) -> int:
    return int(wire.recv(65_536).split(b" ")[1])


@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_leaves_cancels_a_plain_answer(
    wire: socket.socket, host: LiveHost, fake: FakeInvocations, payload: Payload, path: str
) -> None:
    post(wire, host, path, payload("wait"))
    assert fake.started.wait(5)
    left_at = time.monotonic()
    wire.close()
    assert fake.closed.wait(5)
    assert fake.closed_at is not None
    assert fake.closed_at - left_at < PROMPTLY_S


@pytest.mark.parametrize("path", STREAMED_PATHS)
@pytest.mark.parametrize("text", ["hang", "endless"])
def test_a_client_that_leaves_closes_a_stream(
    wire: socket.socket, host: LiveHost, fake: FakeInvocations, payload: Payload, path: str, text: str
) -> None:
    """`hang` waits for a token that does not come; `endless` sends on and on."""
    post(wire, host, path, payload(text, stream=True))
    assert status_of(wire) == 200
    assert fake.started.wait(5)
    left_at = time.monotonic()
    wire.close()
    assert fake.closed.wait(5)
    assert fake.closed_at is not None
    assert fake.closed_at - left_at < PROMPTLY_S


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nothing(
    wire: socket.socket, host: LiveHost, fake: FakeInvocations, caplog: pytest.LogCaptureFixture
) -> None:
    wire.sendall(head(host, "/invocations", "Content-Length: 100") + b'{"inputs": "h')
    time.sleep(0.1)
    wire.close()
    with closing(socket.create_connection(("127.0.0.1", host.port), timeout=10)) as other:
        post(other, host, "/invocations", b'{"inputs": "hi"}')
        assert status_of(other) == 200
    assert len(fake.bodies) == 1
    assert not caplog.records


def test_two_requests_on_one_connection(wire: socket.socket, host: LiveHost, payload: Payload) -> None:
    for _ in range(2):
        post(wire, host, "/invocations", payload("a b", stream=True))
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += wire.recv(65_536)
        assert received.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("path", ["/invocations", "/v1/chat/completions"])
def test_ten_megabytes_are_refused_and_read_to_the_end(
    wire: socket.socket, host: LiveHost, fake: FakeInvocations, path: str
) -> None:
    post(wire, host, path, b"x" * 10_000_000)
    answer = http.client.HTTPResponse(wire)
    answer.begin()
    assert answer.status == 413
    message = f"too_large: the body is larger than the limit of {MAX_BODY_BYTES} bytes"
    error = json.loads(answer.read())["error"]
    assert (error["message"] if path.startswith("/v1/") else error) == message
    assert not fake.bodies


def test_a_chunked_body_needs_no_length(
    wire: socket.socket, host: LiveHost, fake: FakeInvocations, payload: Payload
) -> None:
    body = payload("in two pieces")
    wire.sendall(head(host, "/invocations", "Transfer-Encoding: chunked"))
    for piece in (body[:5], body[5:]):
        wire.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    wire.sendall(b"0\r\n\r\n")
    assert status_of(wire) == 200
    assert fake.bodies == [body]


def test_a_chunked_body_above_the_limit_is_refused(
    wire: socket.socket, host: LiveHost, fake: FakeInvocations
) -> None:
    wire.sendall(head(host, "/invocations", "Transfer-Encoding: chunked"))
    for _ in range(10):
        wire.sendall(b"f4240\r\n" + b"x" * 1_000_000 + b"\r\n")
    wire.sendall(b"0\r\n\r\n")
    assert status_of(wire) == 413
    assert not fake.bodies


def test_a_body_of_exactly_the_limit_passes(
    wire: socket.socket, host: LiveHost, fake: FakeInvocations
) -> None:
    body = b'{"inputs": "hi"}'.ljust(MAX_BODY_BYTES)
    post(wire, host, "/invocations", body)
    assert status_of(wire) == 200
    assert len(fake.bodies[0]) == MAX_BODY_BYTES


def test_who_asks_before_sending_is_spared_the_sending(wire: socket.socket, host: LiveHost) -> None:
    wire.sendall(head(host, "/invocations", "Content-Length: 10000000", "Expect: 100-continue"))
    assert status_of(wire) == 413
