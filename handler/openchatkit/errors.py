"""Every error a caller can see, one class each.

    OpenChatKitError
    ├── InvalidRequest          400  invalid_request         the request breaks a rule of `wire.py`
    ├── SessionNotFound         404  session_not_found       no such session, or another owner's
    ├── Conflict                409  conflict                somebody else wrote this turn first
    ├── TooLarge                413  too_large               the body exceeds the limit
    ├── EngineFailed            500  engine_failed           the model could not answer
    ├── Overloaded              503  overloaded              as many turns run as the settings allow
    ├── ModerationUnavailable   503  moderation_unavailable  a text could not be judged, so it is blocked
    ├── StoreUnavailable        503  store_unavailable       the conversation cannot be read or written
    ├── TurnTimeout             504  timeout                 the turn ran past its wall time
    └── OutOfMemory             507  out_of_memory           the accelerator has no room for this turn

The message is written for the caller: it never quotes a message text, nor another library's
exception. The cause travels as `__cause__` and goes to the log by its type alone.
"""

from __future__ import annotations

from typing import ClassVar


class OpenChatKitError(Exception):
    """Base of all errors with a code on the wire."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "engine_failed"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(OpenChatKitError):
    """The request breaks a rule of `wire.py`; the message names the field and the rule."""

    status = 400
    code = "invalid_request"


class SessionNotFound(OpenChatKitError):
    """There is no such session for this owner. Another owner's session looks the same."""

    status = 404
    code = "session_not_found"


class Conflict(OpenChatKitError):
    """Another request stored this turn of the session first."""

    status = 409
    code = "conflict"


class TooLarge(OpenChatKitError):
    """The body is larger than `wire.MAX_BODY_BYTES`."""

    status = 413
    code = "too_large"


class EngineFailed(OpenChatKitError):
    """The model failed while it answered."""

    status = 500
    code = "engine_failed"


class Overloaded(OpenChatKitError):
    """As many turns are in flight as the settings allow."""

    status = 503
    code = "overloaded"


class ModerationUnavailable(OpenChatKitError):
    """A text could not be judged: the moderation is down, late or answered nonsense."""

    status = 503
    code = "moderation_unavailable"


class StoreUnavailable(OpenChatKitError):
    """The conversation store cannot be reached or refused the call."""

    status = 503
    code = "store_unavailable"


class TurnTimeout(OpenChatKitError):
    """The turn ran past `Settings.turn_timeout_s`."""

    status = 504
    code = "timeout"


class OutOfMemory(OpenChatKitError):
    """The accelerator has no room for this turn."""

    status = 507
    code = "out_of_memory"


def reason(error: BaseException) -> str:
    """Return an error and its causes with their texts, on one line.

    For what happens while the chatbot loads, before there are users: later such texts may quote them.
    """
    causes: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(f"{type(cause).__name__}: {' '.join(str(cause).split())}")
        cause = cause.__cause__
    return "; because of ".join(causes)
