"""POST /invocations: what a request may say, what a reply says, and every limit by name.

A body is one of three shapes, told apart by its keys:

* `inputs`: one turn, a superset of LMI's text-generation schema (`ChatRequest`);
* `messages`: LMI's chat schema, the one of OpenAI clients (`MessagesRequest`), stateless;
* `requestType`: everything around a turn (`CancelRequest`, `HistoryRequest`, ...).

`parse_request` returns one of these or raises `InvalidRequest` / `TooLarge` that names the field
and the rule. Nothing here knows a model, a store or a server.
"""

from __future__ import annotations

import datetime
import re
from typing import Annotated, Any, Literal, TypeVar

import pydantic_core
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from openchatkit.errors import InvalidRequest, OpenChatKitError, TooLarge

MAX_BODY_BYTES = 6 * 1024 * 1024
"""SageMaker's own bound on a request body (botocore's `BodyBlob`: 6,291,456 bytes)."""
MAX_INPUT_CHARACTERS = 16_384
MAX_MESSAGES = 200
MAX_NEW_TOKENS = 2_048
MAX_STOP_WORDS = 8
MAX_STOP_WORD_CHARACTERS = 64
MAX_PASSAGES = 10
MAX_SOURCES = 16
MAX_FILTER_LABELS = 32
MAX_FILTER_CHARACTERS = 200
MAX_IDENTIFIER_CHARACTERS = 128
MAX_COMMENT_CHARACTERS = 2_000
MAX_TITLE_CHARACTERS = 200
MAX_PAGE = 100
"""Most turns or sessions that one HISTORY or SESSIONS request returns."""
MAX_JUDGED_TEXTS = 64
"""Most texts of one MODERATE request."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FORM = re.compile(r"^(?:function-\w+\[|list\[|(?:constrained-)?str$)")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def _plain_text(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return _no_control_characters(value)


def _no_control_characters(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("must not hold control characters other than tab and line breaks")
    if _SURROGATE.search(value):
        raise ValueError("must not hold lone surrogates")
    return value


def _not_empty(value: str) -> str:
    if not value:
        raise ValueError("must not be empty")
    return _no_control_characters(value)


Text = Annotated[str, StringConstraints(max_length=MAX_INPUT_CHARACTERS), AfterValidator(_plain_text)]
Identifier = Annotated[
    str,
    # The charset of SageMaker's own SessionId, so that one id can serve both.
    StringConstraints(max_length=MAX_IDENTIFIER_CHARACTERS, pattern=r"^[A-Za-z0-9](-*[A-Za-z0-9])*$"),
]
UserId = Annotated[
    str,
    StringConstraints(max_length=MAX_IDENTIFIER_CHARACTERS, pattern=r"^[A-Za-z0-9_.@:+|=/-]+$"),
]
SourceName = Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z0-9][a-z0-9_-]*$")]
StopWord = Annotated[str, StringConstraints(max_length=MAX_STOP_WORD_CHARACTERS), AfterValidator(_not_empty)]

DEFAULT_USER = "anonymous"
"""Owner of a session whose requests name no `user_id`."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class Parameters(_Strict):
    """Sampling parameters of one request; what is absent comes from the settings.

    `do_sample`, `details`, `return_full_text` and `stop_sequences` are LMI's names: its clients
    send them. `do_sample: false` means greedy; details are always given, the prompt never.
    """

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_k: Annotated[int, Field(ge=0, le=100_000)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_new_tokens: Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stop: Annotated[list[StopWord], Field(max_length=MAX_STOP_WORDS)] | None = Field(
        default=None, validation_alias=AliasChoices("stop", "stop_sequences")
    )
    do_sample: bool | None = None
    details: bool | None = None
    return_full_text: Literal[False] | None = None


def _calendar_date(value: str) -> str:
    try:
        datetime.date.fromisoformat(value)
    except ValueError:
        raise ValueError("must be a calendar date, YYYY-MM-DD") from None
    return value


FilterLabel = Annotated[str, StringConstraints(max_length=MAX_FILTER_CHARACTERS), AfterValidator(_plain_text)]
FilterDate = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$"), AfterValidator(_calendar_date)]
FilterLabels = Annotated[list[FilterLabel], Field(max_length=MAX_FILTER_LABELS)]


class RetrievalFilters(_Strict):
    """What passages may come from; sources that keep no such labels are not asked. Case does not count."""

    date_from: FilterDate | None = None
    """First day, included. A document without a date passes no filter of dates."""
    date_to: FilterDate | None = None
    company: FilterLabels = []
    """Any of these; so with the other labels. All fields together must hold."""
    kind: FilterLabels = []
    source: FilterLabels = []
    """Who published it."""

    @model_validator(mode="after")
    def _runs_forward(self) -> RetrievalFilters:
        if self.date_from and self.date_to and self.date_from > self.date_to:
            raise ValueError("date_from must not be later than date_to")
        return self


class RetrievalOptions(_Strict):
    """Whether and where to look for passages. Empty `sources` means all that are configured."""

    enabled: bool = True
    k: Annotated[int, Field(ge=1, le=MAX_PASSAGES)] | None = None
    sources: Annotated[list[SourceName], Field(max_length=MAX_SOURCES)] = []
    filters: RetrievalFilters = RetrievalFilters()


class ModerationOptions(_Strict):
    """Which directions to judge; false is refused unless the settings allow it."""

    input: bool = True
    output: bool = True


class ChatRequest(_Strict):
    """One turn of a conversation. Without `session_id` it opens a new session."""

    inputs: Text
    session_id: Identifier | None = None
    user_id: UserId = DEFAULT_USER
    stream: bool = False
    parameters: Parameters = Parameters()
    retrieval: RetrievalOptions = RetrievalOptions()
    moderation: ModerationOptions = ModerationOptions()
    replace_turn: Annotated[int, Field(ge=1, le=2**31)] | None = None
    """Edit or regenerate: this turn takes the place of turn n, and all later ones go."""

    @model_validator(mode="after")
    def _replaces_within_a_session(self) -> ChatRequest:
        if self.replace_turn is not None and self.session_id is None:
            raise ValueError("replace_turn needs a session_id")
        return self


class _TextPart(_Strict):
    type: Literal["text"]
    text: Text


class Message(_Strict):
    """One message of the chat schema. Content is text, or a list of text parts."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[_TextPart], Field(min_length=1, max_length=64)]
    name: UserId | None = None

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


class StreamOptions(_Strict):
    """OpenAI's `stream_options`."""

    include_usage: bool = False


class MessagesRequest(_Strict):
    """The chat schema: the whole conversation travels in the request and nothing is stored.

    Fields of OpenAI's schema that would change the answer and are not supported are accepted only
    with the value that changes nothing, so that a client is never silently disobeyed.
    """

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    model: Annotated[str, StringConstraints(max_length=256)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS)] | None = Field(
        default=None, validation_alias=AliasChoices("max_tokens", "max_completion_tokens")
    )
    stop: StopWord | Annotated[list[StopWord], Field(max_length=MAX_STOP_WORDS)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    user: UserId | None = None
    n: Literal[1] = 1
    logprobs: Literal[False] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] = 0.0
    presence_penalty: Annotated[float, Field(ge=0, le=0)] = 0.0
    retrieval: RetrievalOptions = RetrievalOptions()
    moderation: ModerationOptions = ModerationOptions()

    @model_validator(mode="after")
    def _alternates(self) -> MessagesRequest:
        spoken = [message.role for message in self.messages if message.role in ("user", "assistant")]
        if not spoken or spoken[-1] != "user" or self.messages[-1].role != "user":
            raise ValueError("messages must end with a user's message")
        if spoken != [("user", "assistant")[place % 2] for place in range(len(spoken))]:
            raise ValueError("user and assistant must take turns, the user first")
        return self

    @property
    def parameters(self) -> Parameters:
        """The sampling parameters in the names of the text-generation schema."""
        return Parameters(
            temperature=self.temperature,
            top_p=self.top_p,
            max_new_tokens=self.max_tokens,
            stop=[self.stop] if isinstance(self.stop, str) else self.stop,
            seed=self.seed,
        )


class CancelRequest(_Strict):
    """Stop the turn that a session is generating, on whichever instance generates it."""

    requestType: Literal["CANCEL"]
    session_id: Identifier
    user_id: UserId = DEFAULT_USER
    request_id: Identifier | None = None


class HistoryRequest(_Strict):
    """The turns of a session, oldest first: the newest page, or the one `before` a turn."""

    requestType: Literal["HISTORY"]
    session_id: Identifier
    user_id: UserId = DEFAULT_USER
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = MAX_PAGE
    before: Annotated[int, Field(ge=1, le=2**31)] | None = None


class SessionsRequest(_Strict):
    """A user's sessions, newest first, with a cursor where there are more."""

    requestType: Literal["SESSIONS"]
    user_id: UserId = DEFAULT_USER
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50
    cursor: Annotated[str, StringConstraints(max_length=512, pattern=r"^[A-Za-z0-9_=-]+$")] | None = None


class DeleteRequest(_Strict):
    """Delete a session and all its turns."""

    requestType: Literal["DELETE"]
    session_id: Identifier
    user_id: UserId = DEFAULT_USER


class RenameRequest(_Strict):
    """Give a session another title."""

    requestType: Literal["RENAME"]
    session_id: Identifier
    user_id: UserId = DEFAULT_USER
    title: Annotated[str, StringConstraints(max_length=MAX_TITLE_CHARACTERS), AfterValidator(_plain_text)]


class FeedbackRequest(_Strict):
    """A thumb on one turn, with a comment if there is one. The last one counts."""

    requestType: Literal["FEEDBACK"]
    session_id: Identifier
    user_id: UserId = DEFAULT_USER
    turn: Annotated[int, Field(ge=1, le=2**31)]
    rating: Literal["up", "down", "none"]
    comment: Annotated[
        str, StringConstraints(max_length=MAX_COMMENT_CHARACTERS), AfterValidator(_no_control_characters)
    ] = ""


class NewSessionRequest(_Strict):
    """Open a session without a turn, as SageMaker's stateful sessions do."""

    requestType: Literal["NEW_SESSION"]
    user_id: UserId = DEFAULT_USER


class CloseRequest(_Strict):
    """End a stateful session. The conversation itself stays until it is deleted or expires."""

    requestType: Literal["CLOSE"]
    session_id: Identifier
    user_id: UserId = DEFAULT_USER


class ModerateRequest(_Strict):
    """Judge one text or several; with `bot`, a reply in the context of its one human text."""

    requestType: Literal["MODERATE"]
    inputs: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_JUDGED_TEXTS)]
    bot: Text | None = None

    @model_validator(mode="after")
    def _one_reply_for_one_text(self) -> ModerateRequest:
        if self.bot is not None and not isinstance(self.inputs, str):
            raise ValueError("bot goes with a single text in inputs")
        return self


Request = (
    ChatRequest
    | MessagesRequest
    | CancelRequest
    | HistoryRequest
    | SessionsRequest
    | DeleteRequest
    | RenameRequest
    | FeedbackRequest
    | NewSessionRequest
    | CloseRequest
    | ModerateRequest
)

_BY_TYPE: dict[str, type[_Strict]] = {
    "CANCEL": CancelRequest,
    "HISTORY": HistoryRequest,
    "SESSIONS": SessionsRequest,
    "DELETE": DeleteRequest,
    "RENAME": RenameRequest,
    "FEEDBACK": FeedbackRequest,
    "NEW_SESSION": NewSessionRequest,
    "CLOSE": CloseRequest,
    "MODERATE": ModerateRequest,
}

_Model = TypeVar("_Model", bound=BaseModel)


def parse_request(body: bytes) -> Request:
    """Return the request that a body holds.

    Raises:
        TooLarge: the body exceeds `MAX_BODY_BYTES`.
        InvalidRequest: not JSON, not an object, or a field breaks a rule.
    """
    return request_from(parse_json(body))


def parse_json(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body holds; raises as `parse_request` does."""
    if len(body) > MAX_BODY_BYTES:
        raise TooLarge(f"the body has {len(body)} bytes, the limit is {MAX_BODY_BYTES}")
    try:
        fields = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest("the body is not JSON in UTF-8") from error
    if not isinstance(fields, dict):
        raise InvalidRequest("the body must be a JSON object")
    return fields


def request_from(fields: dict[str, Any]) -> Request:
    """Return the request that a JSON object describes; raises `InvalidRequest`."""
    if "requestType" in fields:
        model = _BY_TYPE.get(str(fields["requestType"]))
        if model is None:
            raise InvalidRequest(f"requestType: must be one of {', '.join(_BY_TYPE)}")
    elif "messages" in fields:
        model = MessagesRequest
    else:
        model = ChatRequest
    request = validate(model, fields)
    assert isinstance(request, Request)
    return request


def validate(model: type[_Model], fields: dict[str, Any]) -> _Model:
    """Return `fields` as `model`, or raise `InvalidRequest` that names the first bad field."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        # Of a field with several forms pydantic also names the form it tried: a type, in brackets.
        # But an unknown field is named as it is.
        known = first["type"] != "extra_forbidden"
        parts = [part for part in first["loc"] if not (known and _FORM.search(str(part)))]
        place = ".".join(_printable(part) for part in parts)
        rule = first["msg"].removeprefix("Value error, ")
        raise InvalidRequest(f"{place}: {rule}" if place else rule) from None


def _printable(part: int | str) -> str:
    """A key of the request as it may stand in an error message and in a status line."""
    return re.sub(r"[^\x20-\x7e]", "?", str(part))[:64]


# --- replies ---------------------------------------------------------------------------------


class JudgedText(_Strict):
    """A verdict as the caller sees it."""

    label: str
    scores: dict[str, float]
    harm: float
    """Severity in [0, 1]; what the policy's thresholds are about."""


class ModerationDetails(_Strict):
    """The verdicts of a turn; None where a direction was not judged."""

    input: JudgedText | None = None
    output: JudgedText | None = None


class Citation(_Strict):
    """A passage that the answer cites as `[number]`."""

    number: int
    id: str
    source: str
    title: str
    text: str
    score: float
    url: str | None = None
    date: str | None = None
    place: str | None = None


class RetrievalDetails(_Strict):
    """What retrieval gave: how many passages stood in the prompt, and which source failed how."""

    enabled: bool
    passages: int = 0
    failures: dict[str, str] = {}
    withheld: int = 0
    """Passages that moderation kept from the prompt."""


class Usage(_Strict):
    """Tokens of the prompt and of what was generated, as the model counts them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Timings(_Strict):
    """Seconds since the turn began until each step was done; None where it did not run."""

    input_moderation: float | None = None
    retrieval: float | None = None
    first_token: float | None = None
    """The engine's first token."""
    first_text: float | None = None
    """The first text that moderation released."""
    total: float = 0.0


class Details(_Strict):
    """Everything about a turn beside its text."""

    session_id: str | None
    request_id: str
    turn: int | None
    finish_reason: str
    moderation: ModerationDetails
    citations: list[Citation]
    retrieval: RetrievalDetails
    usage: Usage
    timings: Timings


class Reply(_Strict):
    """A whole answer."""

    generated_text: str
    details: Details


class Started(_Strict):
    """The first event of a stream."""

    session_id: str | None
    request_id: str


class Heartbeat(_Strict):
    """Between the events of a stream: the turn goes on, there is only nothing to say yet."""


class StoredTurn(_Strict):
    """A turn as HISTORY returns it."""

    turn: int
    request_id: str
    human: str
    bot: str
    finish_reason: str
    created_at: float
    """Seconds since the epoch, UTC."""
    moderation: ModerationDetails
    citations: list[Citation]
    feedback: Literal["up", "down"] | None = None


class History(_Strict):
    """A page of a session's turns, oldest first; `more` tells of older ones."""

    session_id: str
    title: str
    turns: list[StoredTurn]
    more: bool


class SessionSummary(_Strict):
    """A line of a user's list of conversations. Times are seconds since the epoch, UTC."""

    session_id: str
    title: str
    created_at: float
    updated_at: float


class Sessions(_Strict):
    """A page of a user's sessions, newest first; `cursor` fetches the next one."""

    sessions: list[SessionSummary]
    cursor: str | None = None


class Cancelled(_Strict):
    """`cancelled`: stopped here. Else the wish is noted for the instance that generates."""

    session_id: str
    cancelled: bool


class Deleted(_Strict):
    """The session is gone."""

    session_id: str
    deleted: Literal[True] = True


class Acknowledged(_Strict):
    """The session that a request without an answer of its own was about."""

    session_id: str


class Judgement(JudgedText):
    """A verdict as a MODERATE request gets it: with the kind of harm where the judge can tell."""

    category: Annotated[str, StringConstraints(max_length=64)] | None = None


class Verdicts(_Strict):
    """Judgements of a MODERATE request, in the order of its texts."""

    verdicts: list[Judgement]


def error_body(error: OpenChatKitError) -> dict[str, str | int]:
    """Return the JSON object of an error. DJL can carry no other members beside a status."""
    return {"error": f"{error.code}: {error.message}", "code": error.status}
