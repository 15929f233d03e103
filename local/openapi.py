"""What `GET /openapi.json` says: each route's body and answers, with the wire's models as schemas."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from local import event_stream
from local.runtime_api import ENDPOINT_NAME
from openchatkit import wire


def _version() -> str:
    try:
        return version("openchatkit-sagemaker")
    except PackageNotFoundError:  # run from a folder that is not installed
        return "0"


VERSION = _version()

REQUESTS = (
    wire.ChatRequest,
    wire.MessagesRequest,
    wire.CancelRequest,
    wire.HistoryRequest,
    wire.SessionsRequest,
    wire.DeleteRequest,
    wire.RenameRequest,
    wire.FeedbackRequest,
    wire.NewSessionRequest,
    wire.CloseRequest,
    wire.ModerateRequest,
)
REPLIES = (
    wire.Reply,
    wire.Cancelled,
    wire.History,
    wire.Sessions,
    wire.SessionSummary,
    wire.Deleted,
    wire.Acknowledged,
    wire.Verdicts,
)

_ERROR = {
    "type": "object",
    "required": ["error", "code"],
    "properties": {
        "error": {"type": "string", "description": "`<code>: <message>`"},
        "code": {"type": "integer", "description": "the HTTP status"},
    },
}
_RUNTIME_ERROR = {
    "type": "object",
    "required": ["Message"],
    "properties": {
        "Message": {"type": "string"},
        "OriginalStatusCode": {"type": "integer"},
        "OriginalMessage": {
            "type": "string",
            "description": "the container's answer, cut to 2,048 characters",
        },
        "LogStreamArn": {"type": "string"},
    },
}
_OPENAI_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "code": {"type": "string"},
            },
        }
    },
}
_COMPLETION = {
    "type": "object",
    "required": ["id", "object", "created", "model", "choices", "usage"],
    "properties": {"object": {"const": "chat.completion"}, "choices": {"type": "array", "minItems": 1}},
}
_MODELS = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": {"type": "object"}}},
}
_OBJECT = {"type": "object"}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _content(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {media_type: {"schema": schema}}


def _answers(
    ok: dict[str, Any], description: str, errors: dict[int, str], error_schema: dict[str, Any]
) -> dict[int | str, dict[str, Any]]:
    answers: dict[int | str, dict[str, Any]] = {200: {"description": description, "content": ok}}
    for status, meaning in errors.items():
        answers[status] = {"description": meaning, "content": _content("application/json", error_schema)}
    return answers


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": _content("application/json", schema)}}


_ANY_REQUEST = {"anyOf": [_ref(model.__name__) for model in REQUESTS]}
_ANY_REPLY = {"anyOf": [*(_ref(model.__name__) for model in REPLIES), _ref("ChatCompletion")]}
_GUARDED = {403: "a foreign Host or Origin"}
_WIRE_ERRORS = {
    400: "invalid_request",
    **_GUARDED,
    404: "session_not_found",
    409: "conflict",
    413: "too_large",
    500: "engine_failed",
    503: "overloaded, moderation_unavailable or store_unavailable",
    504: "timeout",
    507: "out_of_memory",
}
_RUNTIME_ERRORS = {
    400: "ValidationError",
    413: "the body exceeds the runtime's limit",
    424: "ModelError: the container refused; it carries the original status and body",
    503: "ServiceUnavailable",
}


def _runtime_answers(ok: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    answers = _answers(ok, "the container's answer", _RUNTIME_ERRORS, _ref("RuntimeError"))
    return answers | {
        403: {"description": _GUARDED[403], "content": _content("application/json", _ref("Error"))}
    }


# Keyword arguments of FastAPI's route decorators, one set a route.
PING: dict[str, Any] = {
    "summary": "Whether the chatbot answers",
    "responses": _answers(
        _content("application/json", _OBJECT), "it does", {**_GUARDED, 503: "it still loads"}, _OBJECT
    ),
}
INVOCATIONS: dict[str, Any] = {
    "summary": "A turn of a conversation, or anything around one",
    "openapi_extra": _body(_ANY_REQUEST),
    "responses": _answers(
        {**_content("application/json", _ANY_REPLY), **_content("application/jsonlines", {"type": "string"})},
        "the answer, in lines where the request says `stream`",
        _WIRE_ERRORS,
        _ref("Error"),
    ),
}
INVOKE_ENDPOINT: dict[str, Any] = {
    "summary": "SageMaker runtime: InvokeEndpoint",
    "openapi_extra": _body(_ANY_REQUEST),
    "responses": _runtime_answers(
        {**_content("application/json", _ANY_REPLY), **_content("application/jsonlines", {"type": "string"})}
    ),
}
INVOKE_ENDPOINT_STREAM: dict[str, Any] = {
    "summary": "SageMaker runtime: InvokeEndpointWithResponseStream",
    "openapi_extra": _body(_ANY_REQUEST),
    "responses": _runtime_answers(
        _content(event_stream.CONTENT_TYPE, {"type": "string", "format": "binary"})
    ),
}
CHAT_COMPLETIONS: dict[str, Any] = {
    "summary": "OpenAI's chat completions",
    "openapi_extra": _body(_ref("MessagesRequest")),
    "responses": _answers(
        {
            **_content("application/json", _ref("ChatCompletion")),
            **_content("text/event-stream", {"type": "string"}),
        },
        "the completion, as server-sent events where the request says `stream`",
        {status: meaning for status, meaning in _WIRE_ERRORS.items() if status != 403},
        _ref("OpenAIError"),
    ),
}
MODELS: dict[str, Any] = {
    "summary": "OpenAI's list of models",
    "responses": _answers(_content("application/json", _MODELS), "the one model", _GUARDED, _ref("Error")),
}


def describe(app: FastAPI) -> None:
    """Make the app's OpenAPI document name the wire's models."""
    generate = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = generate()
            for operations in described["paths"].values():
                for operation in operations.values():
                    _correct(operation)
            described.setdefault("components", {})["schemas"] = _schemas()
            app.openapi_schema = described
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _correct(operation: dict[str, Any]) -> None:
    """Put right what FastAPI assumes of an operation with a parameter: a check, and a 422, of its own."""
    operation["responses"].pop("422", None)
    for parameter in operation.get("parameters", ()):
        assert parameter["name"] == "name"
        parameter["schema"] = {"type": "string", "pattern": f"^{ENDPOINT_NAME}$", "maxLength": 63}


def _schemas() -> dict[str, Any]:
    models: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        *((model, "validation") for model in REQUESTS),
        *((model, "serialization") for model in REPLIES),
    ]
    _, definitions = models_json_schema(models, ref_template="#/components/schemas/{model}")
    schemas: dict[str, Any] = definitions["$defs"]
    return {
        **schemas,
        "Error": _ERROR,
        "RuntimeError": _RUNTIME_ERROR,
        "ChatCompletion": _COMPLETION,
        "OpenAIError": _OPENAI_ERROR,
    }
