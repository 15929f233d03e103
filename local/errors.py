"""Errors of the host itself, in the wire's shape, and the last net under every route.

    OpenChatKitError
    ├── Forbidden          403  forbidden            a foreign Host or Origin
    ├── NotFound           404  not_found            no such path
    ├── MethodNotAllowed   405  method_not_allowed   the path knows other methods
    └── Starting, Stopping 503  overloaded           the chatbot loads, or is being shut down

An unforeseen exception answers 500 `engine_failed`. Its type and place go to the log; its message
does not, for it may quote what the user wrote.
"""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openchatkit.errors import EngineFailed, InvalidRequest, OpenChatKitError, Overloaded
from openchatkit.wire import error_body

logger = logging.getLogger("local")


class Forbidden(OpenChatKitError):
    """The request names a foreign host, or comes from a page of a foreign origin."""

    status = 403
    code = "forbidden"


class NotFound(OpenChatKitError):
    """There is no such path."""

    status = 404
    code = "not_found"


class MethodNotAllowed(OpenChatKitError):
    """The path exists; the method does not."""

    status = 405
    code = "method_not_allowed"


class Starting(Overloaded):
    """The chatbot still loads."""


class Stopping(Overloaded):
    """The host is being shut down."""

    def __init__(self) -> None:
        super().__init__("the host is being shut down")


def error_response(error: OpenChatKitError) -> JSONResponse:
    """Return an error as an HTTP answer in the wire's shape."""
    return JSONResponse(error_body(error), error.status)


async def answer_error(_request: Request, error: Exception) -> Response:
    """Answer an `OpenChatKitError` raised in a route."""
    assert isinstance(error, OpenChatKitError)
    return error_response(error)


async def answer_http_exception(_request: Request, error: Exception) -> Response:
    """Answer what Starlette's router raises: no such path, no such method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return error_response(NotFound("no such path; GET /openapi.json lists them"))
    if error.status_code == 405:
        response = error_response(MethodNotAllowed("this path knows other methods"))
        response.headers.update(error.headers or {})
        return response
    return error_response(InvalidRequest("the request cannot be understood"))


def log_unforeseen(error: BaseException) -> None:
    """Log an exception by its type and the innermost places it went through, without its message."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    logger.error("unforeseen %s at %s", type(error).__qualname__, places)


class LastNet:
    """ASGI middleware that turns an unforeseen exception into a 500 of the wire's shape."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; answer what it raises."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watching_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watching_send)
        except Exception as error:  # noqa: BLE001 - the last net: nothing above would answer in our shape
            log_unforeseen(error)
            if not started:
                await error_response(EngineFailed("the request failed for a reason of ours"))(
                    scope, receive, send
                )
