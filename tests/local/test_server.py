"""A host as a process: a taken port, the time before it is ready, and its end by a signal."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from local.server import PortTaken, bind
from tests.local.live import Payload

SCRIPT = Path(__file__).with_name("host_process.py")
END_S = 2.0

Start = Callable[..., "HostProcess"]


class HostProcess:
    """A host that runs until a signal."""

    def __init__(self, port: int = 0, load_seconds: float = 0.0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(port), str(load_seconds)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self, number: signal.Signals) -> tuple[float, str, str]:
        """Send a signal; return the seconds until the process ended, and what it wrote."""
        began = time.monotonic()
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=10)
        return time.monotonic() - began, out, err


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[HostProcess] = []

    def begin(port: int = 0, load_seconds: float = 0.0) -> HostProcess:
        started.append(HostProcess(port, load_seconds))
        return started[-1]

    yield begin
    for host in started:
        host.process.kill()
        host.process.communicate()


def ping(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_while_a_stream_runs(start: Start, payload: Payload, number: signal.Signals) -> None:
    host = start()
    port = int(host.line())
    assert host.line() == "ready"
    with closing(socket.create_connection(("127.0.0.1", port), timeout=10)) as connection:
        body = payload("hang", stream=True)
        head = f"POST /invocations HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: {len(body)}"
        connection.sendall(f"{head}\r\n\r\n".encode() + body)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        seconds, out, err = host.end(number)
        received = b""
        while piece := connection.recv(65_536):
            received += piece
    last_line = [line for line in received.splitlines() if line.startswith(b"{")][-1]
    assert json.loads(last_line) == {"error": "overloaded: the host is being shut down", "code": 503}
    assert seconds < END_S
    assert (out, err, host.process.returncode) == ("ended\n", "", 0)


def test_it_answers_while_it_loads(start: Start) -> None:
    host = start(load_seconds=1.5)
    port = int(host.line())
    assert ping(port) == 503
    assert host.line() == "ready"
    assert ping(port) == 200


def test_a_signal_while_it_loads(start: Start) -> None:
    host = start(load_seconds=1)
    port = int(host.line())
    assert ping(port) == 503
    seconds, out, err = host.end(signal.SIGINT)
    assert seconds < END_S
    assert (out, err) == ("abandoned\n", "")


def test_a_taken_port_is_told_at_once(start: Start) -> None:
    with closing(bind(0)) as listening:
        port = listening.getsockname()[1]
        host = start(port)
        _, err = host.process.communicate(timeout=20)
    assert host.process.returncode == 1
    assert err.startswith(f"port {port} of 127.0.0.1 is in use")
    assert f"ock serve --port {port + 1}" in err


def test_the_port_is_free_again_at_once() -> None:
    listening = bind(0)
    port = listening.getsockname()[1]
    with pytest.raises(PortTaken, match=f"port {port} "):
        bind(port)
    listening.close()
    bind(port).close()
