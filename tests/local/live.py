"""A running local host for the tests: real uvicorn on a free port, around any app."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast

from fastapi import FastAPI

from local.server import Doorway, HostServer, bind
from openchatkit.errors import InvalidRequest
from openchatkit.invocations import Answer, StreamedAnswer, error_answer


@dataclass
class FakeInvocations:
    """Answers by the request's `inputs`; notes what it was given and when its work ended."""

    bodies: list[bytes] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    closed_at: float | None = None
    started: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, body: bytes, headers: Mapping[str, str]) -> Answer | StreamedAnswer:
        self.bodies.append(body)
        self.headers.append(dict(headers))
        request = json.loads(body)
        match request["inputs"]:
            case "wait":
                return await self._waiting()
            case "refuse":
                return error_answer(InvalidRequest("inputs: refused"))
            case "unforeseen":
                raise RuntimeError("canary-text")
            case "session":
                header = {"X-Amzn-SageMaker-Session-Id": "abc; Expires=2030-01-01T00:00:00Z"}
                return Answer(200, b'{"session_id":"abc"}', headers=header)
        if request.get("stream"):
            return StreamedAnswer(self._lines(request["inputs"]))
        return Answer(200, json.dumps({"generated_text": request["inputs"]}).encode())

    async def chat_completions(self, body: bytes, headers: Mapping[str, str]) -> Answer | StreamedAnswer:
        return await self(body, headers)

    async def _waiting(self) -> Answer:
        try:
            self.started.set()
            await asyncio.sleep(60)
        finally:
            self._note_closed()
        return Answer(200, b"{}")

    async def _lines(self, text: str) -> AsyncGenerator[bytes, None]:
        try:
            yield b'{"token":{"text":""}}\n'
            self.started.set()
            if text == "hang":
                await asyncio.sleep(60)
            if text == "break":
                raise RuntimeError("canary-text")
            for word in text.split():
                yield json.dumps({"token": {"text": word}}, ensure_ascii=False).encode() + b"\n"
                yield b"\n"
            while text == "endless":
                await asyncio.sleep(0.01)
                yield b"\n"
        finally:
            self._note_closed()

    def _note_closed(self) -> None:
        self.closed_at = time.monotonic()
        self.closed.set()


@dataclass(frozen=True)
class LiveHost:
    """A host that listens."""

    port: int
    app: FastAPI

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def serving(app: FastAPI | None) -> Iterator[LiveHost]:
    """Run an app on a free port in a thread; None is a host that still loads."""
    listening = bind(0)
    port: int = listening.getsockname()[1]
    doorway = Doorway()
    doorway.app = app
    server = HostServer(doorway)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
    thread.start()
    try:
        yield LiveHost(port, cast("FastAPI", app))
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


class Payload(Protocol):
    """Returns a request body."""

    def __call__(self, inputs: str, **fields: object) -> bytes: ...
