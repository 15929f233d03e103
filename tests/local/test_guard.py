"""Foreign hosts and origins are refused; every answer carries the security headers."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping

import pytest
from starlette.datastructures import Headers

from local.guard import refusal
from tests.local.live import FakeInvocations, LiveHost


def send(
    port: int, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Send a request whose Host is exactly what `headers` say."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    answer = response.status, response.msg, response.read()
    connection.close()
    return answer


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_the_loopback_names_are_served(host: LiveHost, name: str) -> None:
    own = f"{name}:{host.port}"
    assert send(host.port, "GET", "/ping", {"Host": own})[0] == 200
    assert send(host.port, "GET", "/ping", {"Host": own, "Origin": f"http://{own.lower()}"})[0] == 200


FOREIGN_HOSTS = [
    "rebound.example",
    "rebound.example:{port}",
    "127.0.0.1",
    "127.0.0.1:1",
    "localhost.:{port}",
    "",
]


@pytest.mark.parametrize("name", FOREIGN_HOSTS)
def test_a_foreign_host_is_refused(host: LiveHost, fake: FakeInvocations, name: str) -> None:
    headers = {"Host": name.format(port=host.port)}
    status, _, body = send(host.port, "POST", "/invocations", headers, b'{"inputs": "hi"}')
    assert status == 403
    assert json.loads(body)["code"] == 403
    assert json.loads(body)["error"].startswith("forbidden: ")
    assert not fake.bodies


FOREIGN_ORIGINS = [
    "https://evil.example",
    "null",
    "http://localhost",
    "http://127.0.0.1:1",
    "https://127.0.0.1:{port}",
]


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
@pytest.mark.parametrize("path", ["/invocations", "/v1/chat/completions", "/endpoints/x/invocations"])
def test_a_foreign_origin_is_refused(host: LiveHost, fake: FakeInvocations, path: str, origin: str) -> None:
    headers = {"Host": f"127.0.0.1:{host.port}", "Origin": origin.format(port=host.port)}
    status, _, body = send(host.port, "POST", path, headers, b'{"inputs": "hi"}')
    assert status == 403
    assert json.loads(body)["error"].startswith("forbidden: ")
    assert not fake.bodies


@pytest.mark.parametrize(
    "foreign", [{"Host": "rebound.example"}, {"Origin": "https://evil.example"}], ids=["host", "origin"]
)
def test_a_foreign_websocket_is_refused(host: LiveHost, foreign: Mapping[str, str]) -> None:
    handshake = {
        "Host": f"127.0.0.1:{host.port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    assert send(host.port, "GET", "/ws/socket.io/", {**handshake, **foreign})[0] == 403


def test_a_preflight_gets_no_permission(host: LiveHost) -> None:
    headers = {
        "Host": f"127.0.0.1:{host.port}",
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
    }
    status, answered, _ = send(host.port, "OPTIONS", "/invocations", headers)
    assert status == 403
    assert not [name for name in answered if name.lower().startswith("access-control")]


@pytest.mark.parametrize(("path", "foreign"), [("/ping", False), ("/nowhere", False), ("/ping", True)])
def test_every_answer_has_the_security_headers(host: LiveHost, path: str, foreign: bool) -> None:
    name = "rebound.example" if foreign else f"127.0.0.1:{host.port}"
    _, headers, _ = send(host.port, "GET", path, {"Host": name})
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert "Server" not in headers


def test_port_80_needs_no_number() -> None:
    assert refusal(Headers({"host": "localhost", "origin": "http://localhost"}), 80) is None
    assert refusal(Headers({"host": "localhost"}), 8080) is not None


def test_two_hosts_are_one_too_many() -> None:
    both = Headers(raw=[(b"host", b"localhost:8080"), (b"host", b"rebound.example")])
    assert refusal(both, 8080) is not None
