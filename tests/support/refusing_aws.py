"""A server that answers AWS calls as a test says: for what moto never does, such as throttling."""

from __future__ import annotations

import contextlib
import http.server
import os
import threading
import unittest.mock
import urllib.parse
from collections.abc import Callable, Iterator

from tests.support.local_aws import LocalAws

Answer = Callable[[str], tuple[int, bytes]]
"""From an operation's name to a status and a body, XML or JSON as the service has it."""


class RefusingAws:
    """A running server and the operations that it was asked for."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.seen: list[str] = []


@contextlib.contextmanager
def serve_refusals(answer: Answer, *, service: str | None = None) -> Iterator[RefusingAws]:
    """Serve for the time of the block, in which boto3 finds this server and nothing else.

    With `service` (as in AWS_ENDPOINT_URL_<SERVICE>) it takes the place of that service alone.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fields = urllib.parse.parse_qs(body.decode(errors="replace"))
            target = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            self.reply(target or fields.get("Action", [self.path])[0])

        def do_GET(self) -> None:
            self.reply(self.path)

        do_HEAD = do_PUT = do_GET

        def reply(self, action: str) -> None:
            played.seen.append(action)
            status, body = answer(action)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    played = RefusingAws(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    environment = {**LocalAws(0).environment, "AWS_ENDPOINT_URL": played.url}
    if service is not None:
        environment = {f"AWS_ENDPOINT_URL_{service}": played.url}
    try:
        with unittest.mock.patch.dict(os.environ, environment):
            yield played
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
