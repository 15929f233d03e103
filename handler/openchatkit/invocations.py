"""POST /invocations, without a server: bytes in, bytes out.

Both hosts, DJL's `model.py` and `local/`, hand a request's body over and relay what comes back, so
that an endpoint on SageMaker and one on a laptop answer the same. Every error becomes an answer of
the wire's shape; nothing is raised but a programming error in this file.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel

from openchatkit import wire
from openchatkit.errors import InvalidRequest, OpenChatKitError
from openchatkit.judging import JudgingService
from openchatkit.service import Event, OpenChatKitService

JSON_LINES = "application/jsonlines"
EVENT_STREAM = "text/event-stream"
SESSION_HEADER = "X-Amzn-SageMaker-Session-Id"
CLOSED_SESSION_HEADER = "X-Amzn-SageMaker-Closed-Session-Id"
STICKY_SESSION_S = 1200
"""How long SageMaker routes a stateful session to one instance. Only a hint: any instance will do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class LastLine(bytes):
    """The last line of a stream. A host that must announce the end need not wait for it."""


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """An answer in lines, status 200. Closing `lines` stops the turn.

    Blank lines (comments in an event stream) are heartbeats.
    """

    lines: AsyncGenerator[bytes]
    content_type: str = JSON_LINES
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Framing:
    """How the chunks of a chat completion stand in a stream."""

    prefix: bytes
    heartbeat: bytes
    ending: bytes
    end: bytes
    content_type: str

    def encode(self, chunk: Mapping[str, Any]) -> bytes:
        return self.prefix + _dumps(chunk) + self.ending


_LINES = _Framing(b"", b"\n", b"\n", b"", JSON_LINES)
_EVENTS = _Framing(b"data: ", b":\n\n", b"\n\n", b"data: [DONE]\n\n", EVENT_STREAM)


class Answering(Protocol):
    """What a host serves, whatever its role."""

    async def __call__(self, body: bytes, headers: Mapping[str, str]) -> Answer | StreamedAnswer:
        """Answer a request of any shape."""
        ...

    async def chat_completions(self, body: bytes, headers: Mapping[str, str]) -> Answer | StreamedAnswer:
        """Answer an OpenAI client."""
        ...

    async def close(self) -> None:
        """Stop what runs."""
        ...


class Invocations:
    """Answers requests of every shape that `wire.py` knows: the role `chat`."""

    def __init__(
        self,
        service: OpenChatKitService,
        *,
        model_name: str = "openchatkit",
        heartbeat_s: float | None = None,
    ) -> None:
        self.service = service
        self.model_name = model_name
        self._heartbeat_s = heartbeat_s
        self._handlers: dict[type[BaseModel], Callable[[Any], Awaitable[BaseModel]]] = {
            wire.CancelRequest: service.cancel,
            wire.HistoryRequest: service.history,
            wire.SessionsRequest: service.sessions,
            wire.DeleteRequest: service.delete,
            wire.RenameRequest: service.rename,
            wire.FeedbackRequest: service.feedback,
            wire.ModerateRequest: service.moderate,
            wire.NewSessionRequest: service.new_session,
            wire.CloseRequest: service.close_session,
        }

    async def __call__(self, body: bytes, headers: Mapping[str, str]) -> Answer | StreamedAnswer:
        """Answer a request of any shape."""
        try:
            request = wire.request_from(_with_session(wire.parse_json(body), headers))
            if isinstance(request, wire.MessagesRequest):
                return await self._messages(request, _LINES)
            if isinstance(request, wire.ChatRequest):
                return await self._chat(request)
            result = await self._handlers[type(request)](request)
            return Answer(200, _json(result), headers=_sticky_headers(request, result))
        except OpenChatKitError as error:
            return error_answer(error)

    async def chat_completions(self, body: bytes, headers: Mapping[str, str]) -> Answer | StreamedAnswer:
        """Answer an OpenAI client: the chat schema alone, streamed as server-sent events."""
        try:
            fields = wire.parse_json(body)
            if "messages" not in fields:
                raise InvalidRequest("messages: Field required")
            request = wire.validate(wire.MessagesRequest, fields)
            return await self._messages(request, _EVENTS)
        except OpenChatKitError as error:
            return error_answer(error)

    async def close(self) -> None:
        """Stop what runs and wait until it is stored."""
        await self.service.close()

    # --- the text-generation schema --------------------------------------------------------------

    async def _chat(self, request: wire.ChatRequest) -> Answer | StreamedAnswer:
        if not request.stream:
            return Answer(200, _json(await self.service.reply(request)))
        events = self.service.stream(request, heartbeat_s=self._heartbeat_s)
        # The first event tells whether the turn begins at all: after it the status is fixed.
        first = await anext(events)
        return StreamedAnswer(_lines(first, events))

    # --- the chat schema -------------------------------------------------------------------------

    async def _messages(self, request: wire.MessagesRequest, framing: _Framing) -> Answer | StreamedAnswer:
        name = request.model or self.model_name
        if not request.stream:
            return Answer(200, _dumps(_completion(await self.service.reply(request), name)))
        events = self.service.stream(request, heartbeat_s=self._heartbeat_s)
        first = await anext(events)
        assert isinstance(first, wire.Started)
        usage = request.stream_options is not None and request.stream_options.include_usage
        chunks = _completion_chunks(first.request_id, events, name, include_usage=usage)
        return StreamedAnswer(_framed(chunks, framing), framing.content_type)


class JudgingInvocations:
    """Answers MODERATE and nothing else: the role `moderation`."""

    def __init__(self, service: JudgingService) -> None:
        self.service = service

    async def __call__(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Judge the texts of a MODERATE request."""
        try:
            fields = wire.parse_json(body)
            if fields.get("requestType") != "MODERATE":
                raise InvalidRequest("requestType: must be MODERATE, this endpoint judges texts and no more")
            return Answer(
                200, _json(await self.service.moderate(wire.validate(wire.ModerateRequest, fields)))
            )
        except OpenChatKitError as error:
            return error_answer(error)

    async def chat_completions(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Refuse: there is no chat model here."""
        return error_answer(InvalidRequest("this endpoint judges texts and has no chat model"))

    async def close(self) -> None:
        """Free the judge's models."""
        await self.service.close()


def error_answer(error: OpenChatKitError) -> Answer:
    """Return an error as an answer of the wire's shape."""
    return Answer(error.status, _dumps(wire.error_body(error)))


async def _lines(first: Event, events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """Yield a turn's events as JSON lines; an error in mid-stream is the last line."""
    async with aclosing(events):
        yield _event_line(first)
        try:
            async for event in events:
                yield _event_line(event)
        except OpenChatKitError as error:
            yield LastLine(_dumps(wire.error_body(error)) + b"\n")


def _event_line(event: Event) -> bytes:
    if isinstance(event, str):
        return _dumps({"token": {"text": event}}) + b"\n"
    if isinstance(event, wire.Heartbeat):
        return b"\n"
    if isinstance(event, wire.Started):
        return _dumps({"token": {"text": ""}, "details": event.model_dump()}) + b"\n"
    return LastLine(_dumps({"token": {"text": ""}, **event.model_dump()}) + b"\n")


# --- OpenAI's shapes -----------------------------------------------------------------------------

_FINISH = {"length": "length", "moderated": "content_filter", "out_of_domain": "content_filter"}


def _completion(reply: wire.Reply, model: str) -> dict[str, Any]:
    details = reply.details
    return {
        "id": f"chatcmpl-{details.request_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": reply.generated_text},
                "logprobs": None,
                "finish_reason": _FINISH.get(details.finish_reason, "stop"),
            }
        ],
        "usage": _usage(details.usage),
        "details": details.model_dump(),
    }


def _usage(usage: wire.Usage) -> dict[str, int]:
    return {**usage.model_dump(), "total_tokens": usage.prompt_tokens + usage.completion_tokens}


async def _completion_chunks(
    request_id: str, events: AsyncGenerator[Event], model: str, *, include_usage: bool
) -> AsyncGenerator[tuple[dict[str, Any] | None, bool]]:
    """Yield a turn's events as OpenAI's `chat.completion.chunk` objects, each with whether it is the last.

    None in place of a chunk is a heartbeat.
    """
    base = {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
    }

    def chunk(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        return {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    async with aclosing(events):
        yield chunk({"role": "assistant", "content": ""}), False
        try:
            async for event in events:
                if isinstance(event, str):
                    yield chunk({"content": event}), False
                elif isinstance(event, wire.Heartbeat):
                    yield None, False
                elif isinstance(event, wire.Reply):
                    finish = _FINISH.get(event.details.finish_reason, "stop")
                    yield {**chunk({}, finish), "details": event.details.model_dump()}, not include_usage
                    if include_usage:
                        yield {**base, "choices": [], "usage": _usage(event.details.usage)}, True
        except OpenChatKitError as error:
            yield {"error": {"message": f"{error.code}: {error.message}", "code": error.status}}, True


async def _framed(
    chunks: AsyncGenerator[tuple[dict[str, Any] | None, bool]], framing: _Framing
) -> AsyncGenerator[bytes]:
    async with aclosing(chunks):
        async for chunk, last in chunks:
            line = framing.heartbeat if chunk is None else framing.encode(chunk)
            yield LastLine(line) if last and not framing.end else line
        if framing.end:
            yield LastLine(framing.end)


# --- bytes ---------------------------------------------------------------------------------------


def _json(model: BaseModel) -> bytes:
    return _dumps(model.model_dump())


def _dumps(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _sticky_headers(request: wire.Request, result: BaseModel) -> dict[str, str]:
    """Return the headers by which SageMaker opens and closes a stateful session."""
    if isinstance(request, wire.NewSessionRequest) and isinstance(result, wire.SessionSummary):
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + STICKY_SESSION_S))
        return {SESSION_HEADER: f"{result.session_id}; Expires={expires}"}
    if isinstance(request, wire.CloseRequest):
        return {CLOSED_SESSION_HEADER: request.session_id}
    return {}


def _with_session(fields: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """Return a CLOSE request with the session that SageMaker names in its header.

    That is how its stateful sessions are closed. In every other request the header only says where
    SageMaker has sent it: whose session and which one stands in the body.
    """
    if fields.get("requestType") != "CLOSE" or "session_id" in fields:
        return fields
    named = next((value for name, value in headers.items() if name.lower() == SESSION_HEADER.lower()), None)
    return fields if named is None else {**fields, "session_id": named}
