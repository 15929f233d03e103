"""Errors as OpenAI's clients know them: an object under `error`, whose message they show.

The wire's own shape has text there, which these clients drop. Only `/v1/` answers like this.
"""

from __future__ import annotations

import json

from fastapi.responses import JSONResponse, Response

from openchatkit.errors import OpenChatKitError
from openchatkit.invocations import Answer
from openchatkit.wire import error_body


def as_error(body: dict[str, str | int]) -> dict[str, dict[str, str | int | None]]:
    """Return the wire's error as OpenAI's."""
    text = str(body["error"])
    kind = "invalid_request_error" if int(body["code"]) < 500 else "server_error"
    return {"error": {"message": text, "type": kind, "param": None, "code": text.partition(":")[0]}}


def refusal(answer: Answer) -> Response:
    """Return an answer that is an error of the wire as an HTTP answer."""
    return JSONResponse(as_error(json.loads(answer.body)), answer.status)


def error_response(error: OpenChatKitError) -> Response:
    """Return an error of the chatbot or of the host as an HTTP answer."""
    return JSONResponse(as_error(error_body(error)), error.status)
