"""A CodeBuild on 127.0.0.1 whose builds a test lets run, fail and succeed.

Moto's builds are over, and well, as soon as one looks; it knows no idempotency tokens and no logs of them.
This one speaks the two calls that the function makes, and CloudWatch Logs' one, to a real boto3 client.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FakeCodeBuild:
    """The builds by id, and what was asked."""

    builds: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    started: list[dict[str, Any]] = field(default_factory=list)
    log: list[str] | None = None
    """None: the log may not be read."""
    refuse: list[tuple[int, str]] = field(default_factory=list)
    """Status and code of the answers to the next calls."""
    url: str = ""

    def start_build(self, request: dict[str, Any]) -> dict[str, Any]:
        token = request["idempotencyToken"]
        if token not in self.tokens:
            build_id = f"{request['projectName']}:{len(self.builds) + 1}"
            self.tokens[token] = build_id
            self.started.append(request)
            self.builds[build_id] = {
                "id": build_id,
                "buildStatus": "IN_PROGRESS",
                "phases": [{"phaseType": "SUBMITTED", "phaseStatus": "SUCCEEDED"}, {"phaseType": "QUEUED"}],
                "logs": {"deepLink": "https://logs.example/1", "groupName": "group", "streamName": "1"},
            }
        return {"build": self.builds[self.tokens[token]]}

    def batch_get_builds(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"builds": [self.builds[one] for one in request["ids"] if one in self.builds]}

    def get_log_events(self, request: dict[str, Any]) -> dict[str, Any]:
        assert (request["logGroupName"], request["logStreamName"]) == ("group", "1")
        return {"events": [{"timestamp": 1, "message": line} for line in self.log or []]}

    def fail(self, build_id: str, *, status: str = "FAILED", message: str = "exit status 1") -> None:
        """End a build in its BUILD phase."""
        phase = {"phaseType": "BUILD", "phaseStatus": status, "contexts": [{"message": message}]}
        self.builds[build_id]["buildStatus"] = status
        self.builds[build_id]["phases"].append(phase)


OPERATIONS = {
    "CodeBuild_20161006.StartBuild": "start_build",
    "CodeBuild_20161006.BatchGetBuilds": "batch_get_builds",
    "Logs_20140328.GetLogEvents": "get_log_events",
}


@contextlib.contextmanager
def serve_codebuild() -> Iterator[FakeCodeBuild]:
    """Serve it on a free port."""
    fake = FakeCodeBuild()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            operation = OPERATIONS[self.headers["X-Amz-Target"]]
            if operation == "get_log_events" and fake.log is None:
                self.answer(400, {"__type": "AccessDeniedException", "message": "no"})
            elif fake.refuse:
                status, code = fake.refuse.pop(0)
                self.answer(status, {"__type": code, "message": "no"})
            else:
                self.answer(200, getattr(fake, operation)(request))

        def answer(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
