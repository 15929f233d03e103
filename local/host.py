"""The local host: the chatbot's HTTP endpoints on one machine.

    GET  /ping                                          as SageMaker asks a container
    POST /invocations                                   the container's own endpoint
    POST /endpoints/{name}/invocations                  SageMaker runtime: InvokeEndpoint
    POST /endpoints/{name}/invocations-response-stream  ... InvokeEndpointWithResponseStream
    POST /v1/chat/completions,  GET /v1/models          for OpenAI's clients
    GET  /openapi.json                                  all of these, with the wire's schemas
    /                                                   the chat page, where `mount_page` adds it

Wiring only: what a request means is decided by `openchatkit.invocations`, which the container on
SageMaker shares. `python -m local.serve` runs it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from local import event_stream, openai_api, openapi, runtime_api
from local.errors import LastNet, Stopping, answer_error, answer_http_exception, log_unforeseen
from local.exchange import ClientGone, Framing, LineStream, answer_nobody, read_body, while_connected
from local.framing import EventStreamParts, JsonLines, ServerSentEvents
from local.guard import LocalGuard
from openchatkit.errors import EngineFailed, OpenChatKitError, TooLarge
from openchatkit.invocations import Answer, Answering, StreamedAnswer, error_answer
from openchatkit.wire import MAX_BODY_BYTES

logger = logging.getLogger(__name__)

HEALTHY = {"model": {"status": "Healthy"}}
DEFAULT_MODEL_NAME = "openchatkit"

_Call = Callable[[bytes, Mapping[str, str]], Awaitable[Answer | StreamedAnswer]]


def create_app(
    invocations: Answering,
    *,
    mount_page: Callable[[FastAPI], None] | None = None,
    model_name: str = DEFAULT_MODEL_NAME,
) -> FastAPI:
    """Return the host's app.

    Args:
        invocations: answers the endpoints.
        mount_page: adds the chat page at `/`; it gets every path that is none of the endpoints.
        model_name: the one model of `GET /v1/models`.
    """
    app = FastAPI(
        title="OpenChatKit on one machine",
        version=openapi.VERSION,
        description="The endpoint of the chatbot as it runs on SageMaker, served on 127.0.0.1.",
        docs_url=None,  # FastAPI's pages load their scripts from a CDN
        redoc_url=None,
        redirect_slashes=False,
        middleware=[Middleware(LocalGuard), Middleware(LastNet)],
        exception_handlers={
            OpenChatKitError: answer_error,
            HTTPException: answer_http_exception,
            ClientGone: answer_nobody,
        },
    )
    stopping = asyncio.Event()
    app.state.stopping = stopping
    routes = _Routes(invocations, stopping, model_name)
    routes.add_to(app)
    openapi.describe(app)
    if mount_page is not None:
        mount_page(app)
    return app


class _Routes:
    """The endpoints, bound to the chatbot."""

    def __init__(self, invocations: Answering, stopping: asyncio.Event, model_name: str) -> None:
        self._invocations = invocations
        self._stopping = stopping
        self._model_name = model_name
        self._started_at = int(time.time())

    def add_to(self, app: FastAPI) -> None:
        """Register the routes with what `openapi.json` says of them."""
        app.get("/ping", **openapi.PING)(self.ping)
        app.post("/invocations", **openapi.INVOCATIONS)(self.invoke)
        app.post("/endpoints/{name}/invocations", **openapi.INVOKE_ENDPOINT)(self.invoke_endpoint)
        app.post("/endpoints/{name}/invocations-response-stream", **openapi.INVOKE_ENDPOINT_STREAM)(
            self.invoke_endpoint_with_response_stream
        )
        app.post("/v1/chat/completions", **openapi.CHAT_COMPLETIONS)(self.chat_completions)
        app.get("/v1/models", **openapi.MODELS)(self.models)

    async def ping(self) -> Response:
        """Tell that the chatbot is loaded and answers."""
        return JSONResponse(HEALTHY)

    async def models(self) -> Response:
        """List the one model, as OpenAI's clients ask for it."""
        model = {
            "id": self._model_name,
            "object": "model",
            "created": self._started_at,
            "owned_by": "openchatkit",
        }
        return JSONResponse({"object": "list", "data": [model]})

    async def invoke(self, request: Request) -> Response:
        """Answer a request of the wire, streamed or not as it says itself."""
        answer = await self._call(request, self._invocations)
        if isinstance(answer, StreamedAnswer):
            return self._stream(answer, JsonLines(), answer.content_type, answer.headers)
        return _as_response(answer)

    async def chat_completions(self, request: Request) -> Response:
        """Answer an OpenAI client."""
        try:
            answer = await self._call(request, self._invocations.chat_completions)
        except OpenChatKitError as error:
            return openai_api.error_response(error)
        if isinstance(answer, StreamedAnswer):
            return self._stream(answer, ServerSentEvents(), answer.content_type, answer.headers)
        return _as_response(answer) if answer.status < 400 else openai_api.refusal(answer)

    async def _call(self, request: Request, call: _Call) -> Answer | StreamedAnswer:
        body = await read_body(request)
        async with while_connected(request.receive, self._stopping):
            return await call(body, request.headers)

    async def invoke_endpoint(self, request: Request, name: str) -> Response:
        """SageMaker runtime's InvokeEndpoint: one answer, a streamed one collected."""
        try:
            answer = await self._invoke_container(request, name, streamed=False)
            if isinstance(answer, StreamedAnswer):
                async with while_connected(request.receive, self._stopping):
                    answer = await _collected(answer)
        except Stopping as error:
            return runtime_api.error("ServiceUnavailable", 503, error.message)
        if isinstance(answer, Response):
            return answer
        if not 200 <= answer.status < 300:
            return runtime_api.model_error(answer)
        headers = runtime_api.answer_headers(answer.headers)
        return Response(answer.body, 200, headers, answer.content_type)

    async def invoke_endpoint_with_response_stream(self, request: Request, name: str) -> Response:
        """SageMaker runtime's InvokeEndpointWithResponseStream: the answer as an AWS event stream."""
        try:
            answer = await self._invoke_container(request, name, streamed=True)
        except Stopping as error:
            return runtime_api.error("ServiceUnavailable", 503, error.message)
        if isinstance(answer, Response):
            return answer
        if isinstance(answer, Answer):
            if not 200 <= answer.status < 300:
                return runtime_api.model_error(answer)
            answer = StreamedAnswer(_single(answer.body), answer.content_type, answer.headers)
        headers = {
            **runtime_api.answer_headers(answer.headers),
            "X-Amzn-SageMaker-Content-Type": answer.content_type,
        }
        return self._stream(answer, EventStreamParts(), event_stream.CONTENT_TYPE, headers)

    async def _invoke_container(
        self, request: Request, name: str, *, streamed: bool
    ) -> Answer | StreamedAnswer | Response:
        """Return the container's answer, or what SageMaker itself says to the call."""
        problem = runtime_api.validation_problem(name, request.headers, streamed=streamed)
        try:
            body = await read_body(request)
        except TooLarge:
            return runtime_api.too_large(MAX_BODY_BYTES)
        if problem is not None:
            return runtime_api.validation_error(problem)
        try:
            async with while_connected(request.receive, self._stopping):
                return await self._invocations(body, runtime_api.container_headers(request.headers))
        except (ClientGone, Stopping):
            raise
        except Exception as error:  # noqa: BLE001 - to SageMaker it is the container that failed
            log_unforeseen(error)
            return error_answer(EngineFailed("the request failed for a reason of ours"))

    def _stream(
        self, answer: StreamedAnswer, framing: Framing, content_type: str, headers: Mapping[str, str]
    ) -> Response:
        return LineStream(
            answer.lines, framing, content_type=content_type, headers=headers, stopping=self._stopping
        )


def _as_response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers), answer.content_type)


async def _collected(answer: StreamedAnswer) -> Answer:
    try:
        body = b"".join([line async for line in answer.lines])
    finally:
        await answer.lines.aclose()
    return Answer(200, body, answer.content_type, answer.headers)


async def _single(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
