"""SageMaker runtime's HTTP API around answers of the chatbot, so that boto3 cannot tell the difference.

What the container answers goes through; what it refuses becomes a `ModelError` (424) that carries
the original status and body; what SageMaker itself would refuse never reaches the container. Names
and shapes are those of botocore's service model `sagemaker-runtime` (2017-05-13).

Any endpoint name is served. Credentials and signatures are not looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from openchatkit.invocations import Answer

VARIANT = "chat"
MAX_MESSAGE_CHARACTERS = 2048
NEW_SESSION = "NEW_SESSION"

ENDPOINT_NAME = "[A-Za-z0-9](-*[A-Za-z0-9]){0,62}"
_SESSION_ID = "x-amzn-sagemaker-session-id"
# Headers of the container's answer that SageMaker passes on, and under which name.
_PASSED_ON = {
    "x-amzn-sagemaker-custom-attributes": "X-Amzn-SageMaker-Custom-Attributes",
    "x-amzn-sagemaker-closed-session-id": "X-Amzn-SageMaker-Closed-Session-Id",
    _SESSION_ID: "X-Amzn-SageMaker-New-Session-Id",
}


def validation_problem(endpoint_name: str, headers: Headers, *, streamed: bool) -> str | None:
    """Return why SageMaker itself would refuse the call, None where it would not."""
    if not re.fullmatch(ENDPOINT_NAME, endpoint_name) or len(endpoint_name) > 63:
        return "EndpointName must satisfy [a-zA-Z0-9](-*[a-zA-Z0-9])* and have at most 63 characters"
    if streamed and headers.get(_SESSION_ID) == NEW_SESSION:
        return "a stateful session is opened by InvokeEndpoint, not by InvokeEndpointWithResponseStream"
    return None


def container_headers(headers: Headers) -> Mapping[str, str]:
    """Return a call's headers as the container sees them: the streamed API renames `Accept`."""
    passed = MutableHeaders(raw=list(headers.raw))
    accept = passed.get("x-amzn-sagemaker-accept")
    if accept is not None:
        passed["accept"] = accept
    return passed


def answer_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that SageMaker sends along with an answer of the container."""
    passed = {
        _PASSED_ON[name.lower()]: value for name, value in headers.items() if name.lower() in _PASSED_ON
    }
    return {"x-Amzn-Invoked-Production-Variant": VARIANT, **passed}


def error(kind: str | None, status: int, message: str, **members: str | int) -> Response:
    """Return an error as the runtime API words it; `kind` is the exception's name in boto3."""
    body = {"Message": message[:MAX_MESSAGE_CHARACTERS], **members}
    headers = {"x-amzn-ErrorType": kind} if kind else {}
    return Response(json.dumps(body), status, headers, "application/json")


def validation_error(message: str) -> Response:
    """Return a `ValidationError` (400)."""
    return error("ValidationError", 400, message)


def too_large(limit: int) -> Response:
    """Return what the front of the runtime API says to a body above its limit; it has no name."""
    return error(None, 413, f"HTTP content length exceeded {limit} bytes.")


def model_error(answer: Answer) -> Response:
    """Return the `ModelError` (424) for an answer of the container that is not a success."""
    original = answer.body.decode("utf-8", "replace")
    side = "client" if 400 <= answer.status < 500 else "server"
    message = f'Received {side} error ({answer.status}) from {VARIANT} with message "{original}".'
    return error(
        "ModelError",
        424,
        message,
        OriginalStatusCode=answer.status,
        OriginalMessage=original[:MAX_MESSAGE_CHARACTERS],
        LogStreamArn="",
    )
