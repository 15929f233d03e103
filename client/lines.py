"""From the parts of a response stream to JSON objects. A part may end anywhere, in a character too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from client.errors import CallFailed, Refused

MAX_LINE_BYTES = 8 * 1024 * 1024
"""A line longer than any answer of the wire: whatever sends it is not the chatbot."""


def lines_of(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines that the parts make up, without their ends; the last one needs none.

    Raises:
        CallFailed: a line exceeds `MAX_LINE_BYTES`.
    """
    pending = bytearray()
    for part in parts:
        *whole, rest = part.split(b"\n")
        for piece in whole:
            yield bytes(pending + piece)
            pending.clear()
        pending += rest
        if len(pending) > MAX_LINE_BYTES:
            raise CallFailed("the answer is not one of this chatbot: a line of it is too long")
    if pending:
        yield bytes(pending)


def objects_of(parts: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a stream; blank lines are heartbeats.

    Raises:
        Refused: a line holds the wire's error, with which a stream ends early.
        CallFailed: a line is not a JSON object.
    """
    for line in lines_of(parts):
        if not line.strip():
            continue
        fields = object_of(line)
        raise_error_of(fields)
        yield fields


def object_of(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body holds; raises `CallFailed`."""
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise CallFailed("the answer is not JSON: is this endpoint the chatbot?") from error
    if not isinstance(fields, dict):
        raise CallFailed("the answer is not a JSON object: is this endpoint the chatbot?")
    return fields


def raise_error_of(fields: dict[str, Any]) -> None:
    """Raise `Refused` where an object is an error of the wire."""
    if isinstance(fields.get("error"), str) and isinstance(fields.get("code"), int):
        code, _, message = fields["error"].partition(": ")
        raise Refused(code, message, fields["code"])
