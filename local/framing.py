"""How lines of an answer stand in an HTTP body: as they are, as events for OpenAI's clients, as AWS's."""

from __future__ import annotations

import json
from collections.abc import Iterable

from local.event_stream import model_stream_error, payload_parts
from local.openai_api import as_error
from openchatkit.errors import OpenChatKitError
from openchatkit.wire import error_body


class JsonLines:
    """POST /invocations: a JSON object a line, a blank line for a heartbeat."""

    def encode(self, line: bytes) -> Iterable[bytes]:
        """Return the line."""
        return (line,)

    def encode_failure(self, error: OpenChatKitError) -> bytes:
        """Return the error as the last line."""
        return json.dumps(error_body(error)).encode() + b"\n"


class ServerSentEvents:
    """POST /v1/chat/completions: lines that are server-sent events already."""

    def encode(self, line: bytes) -> Iterable[bytes]:
        """Return the line."""
        return (line,)

    def encode_failure(self, error: OpenChatKitError) -> bytes:
        """Return the error as OpenAI's clients know it."""
        return b"data: " + json.dumps(as_error(error_body(error))).encode() + b"\n\n"


class EventStreamParts:
    """SageMaker's response stream: whatever the container writes travels in PayloadPart events."""

    def encode(self, line: bytes) -> Iterable[bytes]:
        """Return the line as events."""
        return payload_parts(line)

    def encode_failure(self, error: OpenChatKitError) -> bytes:
        """Return the exception that ends the stream."""
        return model_stream_error(f"{error.code}: {error.message}", "StreamBroken")
