"""One HTTP exchange: read a body within its limit, work while the client stays, stream lines.

SageMaker never tells a container that its client has gone; here the socket does, and an answer
that nobody waits for is given up at once. The work runs in the request's own task and is cancelled
there, once: what it cleans up may await, and cancel scopes inside it stay in one task.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from typing import Protocol

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from local.errors import Stopping, log_unforeseen
from openchatkit.errors import EngineFailed, OpenChatKitError, TooLarge
from openchatkit.wire import MAX_BODY_BYTES

MAX_DRAINED_BYTES = 64 * 1024 * 1024
"""Most of a too large body that is read, and dropped, so that its sender gets to read the 413."""


class ClientGone(Exception):
    """The client closed its connection before the answer was complete."""


async def answer_nobody(_request: Request, _error: Exception) -> Response:
    """Answer a client that is not there any more: a formality of the framework."""
    return Response(status_code=499)


class Framing(Protocol):
    """How lines stand in a response body."""

    def encode(self, line: bytes) -> Iterable[bytes]:
        """Return the pieces of the body that carry a line."""
        ...

    def encode_failure(self, error: OpenChatKitError) -> bytes:
        """Return the last piece of a body whose lines broke off."""
        ...


async def read_body(request: Request) -> bytes:
    """Return the body.

    Raises:
        TooLarge: it exceeds `MAX_BODY_BYTES`; what exceeds was never kept.
        ClientGone: the client left before it was complete.
    """
    declared = request.headers.get("content-length", "")
    too_large = declared.isdecimal() and int(declared) > MAX_BODY_BYTES
    waiting_for_continue = request.headers.get("expect", "").lower() == "100-continue"
    pieces: list[bytes] = []
    size = 0
    if not (too_large and waiting_for_continue):
        try:
            async for piece in request.stream():
                size += len(piece)
                too_large = too_large or size > MAX_BODY_BYTES
                if too_large:
                    pieces.clear()
                else:
                    pieces.append(piece)
                if size > MAX_DRAINED_BYTES:
                    break
        except ClientDisconnect as error:
            raise ClientGone from error
    if too_large:
        raise TooLarge(f"the body is larger than the limit of {MAX_BODY_BYTES} bytes")
    return b"".join(pieces)


@contextlib.asynccontextmanager
async def while_connected(receive: Receive, stopping: asyncio.Event) -> AsyncIterator[None]:
    """Run the block; cancel what it awaits as soon as the client goes or the host stops.

    Args:
        receive: ASGI's, with the body read to its end.
        stopping: set when the host ends.

    Raises:
        ClientGone, Stopping: the block was cancelled for that.
    """
    inside = True
    causes: list[type[ClientGone | Stopping]] = []
    loop = asyncio.get_running_loop()
    try:
        # A timeout without a time is asyncio's way to cancel the task one is in from outside.
        async with asyncio.timeout(None) as limit:

            def leave(cause: type[ClientGone | Stopping], task: asyncio.Task[None]) -> None:
                if inside and not task.cancelled() and not causes:
                    causes.append(cause)
                    limit.reschedule(loop.time())

            gone = asyncio.create_task(_disconnected(receive))
            gone.add_done_callback(lambda task: leave(ClientGone, task))
            stopped = asyncio.create_task(_happened(stopping))
            stopped.add_done_callback(lambda task: leave(Stopping, task))
            try:
                yield
            finally:
                inside = False
                gone.cancel()
                stopped.cancel()
    except TimeoutError:
        if causes and limit.expired():
            raise causes[0]() from None
        raise


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _happened(event: asyncio.Event) -> None:
    await event.wait()


class LineStream(Response):
    """A streamed answer. Its lines are closed on every way out, which stops the engine."""

    def __init__(
        self,
        lines: AsyncGenerator[bytes, None],
        framing: Framing,
        *,
        content_type: str,
        headers: Mapping[str, str],
        stopping: asyncio.Event,
    ) -> None:
        super().__init__(headers={**headers, "X-Accel-Buffering": "no"}, media_type=content_type)
        del self.headers["content-length"]
        self._lines = lines
        self._framing = framing
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines until they end, the client goes or the host stops."""
        last = b""
        try:
            async with while_connected(receive, self._stopping):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                async for line in self._lines:
                    for piece in self._framing.encode(line):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
        except ClientGone:
            return
        except OpenChatKitError as error:
            last = self._framing.encode_failure(error)
        except Exception as error:  # noqa: BLE001 - the status is sent: only the stream can still say it
            log_unforeseen(error)
            last = self._framing.encode_failure(EngineFailed("the answer broke off for a reason of ours"))
        finally:
            await self._lines.aclose()
        await send({"type": "http.response.body", "body": last, "more_body": False})
