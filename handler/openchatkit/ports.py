"""What the chatbot needs from outside, as protocols, and the records that pass between.

Every protocol has a real embedded implementation (SQLite, Faiss, MiniLM, transformers) beside the
one of production, and one contract suite in `tests/contract` that runs on all of them. Records are
frozen dataclasses: they are compared, stored and shown, never changed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Embedding = NDArray[np.float32]
"""Shape `(dimension,)` or `(n, dimension)`, rows of unit length."""

FinishReason = Literal["stop", "length", "moderated", "out_of_domain", "cancelled"]
Direction = Literal["input", "output"]


class Closing(Protocol):
    """Holds something that must be let go of at the end."""

    async def close(self) -> None:
        """Let go of it; nothing may be asked of the object afterwards."""
        ...


# --- engines ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How to sample. `temperature` 0 is greedy, `top_k` 0 and `top_p` 1 switch those cuts off."""

    temperature: float
    top_k: int
    top_p: float
    max_new_tokens: int
    repetition_penalty: float
    stop: tuple[str, ...]
    """Text that ends the reply; it is not part of it. Matched across token borders."""
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a reply. The last one, and only it, carries `finish_reason`."""

    text: str
    tokens: int
    """Tokens generated since the previous chunk; their text may still be held back."""
    finish_reason: Literal["stop", "length", "cancelled"] | None = None


class Tokenizer(Protocol):
    """The tokenizer of an engine's model, for budgets and for the model's own chat template."""

    def count(self, text: str) -> int:
        """Return the number of tokens of `text`, special tokens that the model adds included."""
        ...

    def apply_chat_template(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return messages as one prompt; raises ValueError where the model has no template."""
        ...


class Engine(Protocol):
    """A causal language model. One object serves many requests at once.

    It never shows half a character, ends at stop words across token borders and shows no part of
    one, and frees what a request holds on every way out, a caller's that stops iterating included.
    """

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        ...

    @property
    def context_length(self) -> int:
        """Most tokens of a prompt and its reply together."""
        ...

    def generate(self, prompt: str, parameters: SamplingParameters, request_id: str) -> AsyncGenerator[Chunk]:
        """Yield the reply in chunks; closing the generator stops the computation.

        Raises:
            EngineFailed, OutOfMemory: the model could not go on.
        """
        ...

    async def score(self, prompt: str, choices: Sequence[str]) -> list[float]:
        """Return the probability of each choice as the prompt's continuation.

        Log-likelihoods of the tokens that tell a choice from others are divided by their number, then
        normalised over the choices: the list sums to one.
        """
        ...

    async def abort(self, request_id: str) -> None:
        """Stop a request's computation; its stream ends with `cancelled`. Unknown ids are fine."""
        ...

    async def close(self) -> None:
        """End every request and free the model."""
        ...


# --- retrieval -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document, as a source returns it."""

    id: str
    """Unique in its source and stable: a stored conversation refers to it."""
    source: str
    title: str
    text: str
    score: float
    url: str | None = None
    date: str | None = None
    """ISO 8601 date of the document."""
    place: str | None = None
    """Where in the document: a heading, a page, a line."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What passages may come from. Empty fields let everything pass; labels compare without case."""

    date_from: str | None = None
    """ISO 8601, included. A document without a date passes no filter of dates."""
    date_to: str | None = None
    company: tuple[str, ...] = ()
    """Any of these; so with the other labels."""
    kind: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    """Who published it; not the name of the index."""

    def any(self) -> bool:
        """Return whether there is something to filter by."""
        return self != _NO_FILTERS


_NO_FILTERS = Filters()


@dataclass(frozen=True, slots=True)
class Query:
    """A question on its way to the sources. The embedding is computed once, for all of them."""

    text: str
    embedding: Embedding | None = None
    filters: Filters = _NO_FILTERS


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Passages, best first, and what each source that failed had to say: a code, no text."""

    passages: tuple[Passage, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    withheld: int = 0
    """Passages that moderation kept from the prompt."""


class Encoder(Protocol):
    """A sentence encoder. Blocking: callers on an event loop use a thread."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> Embedding:
        """Return unit vectors, shape `(len(texts), dimension)`, float32."""
        ...


class Source(Protocol):
    """One place to look for passages."""

    @property
    def name(self) -> str:
        """Lower-case name by which requests choose it."""
        ...

    async def search(self, query: Query, k: int) -> list[Passage]:
        """Return at most `k` passages, best first."""
        ...

    async def passage(self, passage_id: str) -> Passage | None:
        """Return a passage by its id, None where the source holds it no more."""
        ...


class Reranker(Protocol):
    """Judges question and passage together: better than two vectors, and slower."""

    async def scores(self, question: str, passages: Sequence[Passage]) -> list[float]:
        """Return for each passage how well it answers the question, in [0, 1]."""
        ...


class Retriever(Protocol):
    """All sources behind one call. A source that fails costs its own passages only."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the configured sources."""
        ...

    async def retrieve(self, queries: Sequence[Query], k: int, sources: Sequence[str] = ()) -> Retrieval:
        """Return at most `k` passages for the queries together; empty `sources` means all.

        Raises:
            InvalidRequest: a source that is not configured.
        """
        ...

    async def passage(self, source: str, passage_id: str) -> Passage | None:
        """Return a cited passage by its reference, None where it is gone."""
        ...

    def queries(self, question: str, earlier: Sequence[str]) -> list[str]:
        """Return what to search for: a follow-up is asked together with the question before it."""
        ...


class DomainGuard(Protocol):
    """Tells whether a question belongs to what the bot is for."""

    async def in_domain(self, query: Query) -> bool:
        """Return whether a question may be answered."""
        ...

    @property
    def reply(self) -> str:
        """What the bot says instead."""
        ...


# --- moderation ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judgement: the label, the probability of each label, and the severity in one number."""

    label: str
    scores: Mapping[str, float]
    harm: float
    """In [0, 1]; what the policy's thresholds are about."""


class Moderator(Protocol):
    """Judges a human's text, or a bot's reply in its context."""

    async def judge(self, human: str, bot: str | None = None) -> Verdict:
        """Return the verdict.

        Raises:
            ModerationUnavailable: no trustworthy verdict could be had; the text must be blocked.
        """
        ...


# --- conversation ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CitedPassage:
    """A passage that an answer cites, by reference: its text stays with the source."""

    number: int
    """The n of `[n]` in the answer."""
    id: str
    source: str
    title: str
    score: float
    url: str | None = None
    date: str | None = None
    place: str | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """What the user thought of a turn."""

    rating: Literal["up", "down"]
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange, as it is stored: exactly what the user asked and saw."""

    session_id: str
    number: int
    """From 1; 0 is the session's header."""
    request_id: str
    human: str
    bot: str
    finish_reason: FinishReason
    created_at: float
    """Seconds since the epoch, UTC."""
    citations: tuple[CitedPassage, ...] = ()
    input_verdict: Verdict | None = None
    output_verdict: Verdict | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    feedback: Feedback | None = None


UNTITLED = "New conversation"
"""Title of a session that has no turn yet; the first question takes its place."""


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation's header."""

    session_id: str
    owner: str
    title: str
    created_at: float
    updated_at: float
    """Seconds since the epoch, UTC, of the newest turn or of the creation."""
    cancel_mark: str | None = None
    """The newest wish to stop a turn, opaque to the store: `<request id or *>:<nonce>`."""


@dataclass(frozen=True, slots=True)
class SessionPage:
    """A page of sessions, newest first. `cursor` is None on the last page."""

    sessions: tuple[Session, ...]
    cursor: str | None = None


class ConversationStore(Protocol):
    """Where conversations live. It knows no owners' rights: the service checks those.

    Every method raises `StoreUnavailable` where the store cannot be reached. Retention counts from
    a session's last turn.
    """

    async def create(self, session: Session, *, listed: bool = True) -> None:
        """Add a session; raises `Conflict` where the id exists.

        Args:
            listed: False keeps it out of its owner's list, and for a short time only, until a turn
                of it is stored.
        """
        ...

    async def session(self, session_id: str) -> Session | None:
        """Return a session's header, None where there is none."""
        ...

    async def sessions(self, owner: str, limit: int, cursor: str | None = None) -> SessionPage:
        """Return an owner's sessions, newest `updated_at` first.

        Raises:
            InvalidRequest: a cursor that this store did not make for this owner.
        """
        ...

    async def rename(self, session_id: str, title: str) -> None:
        """Set a session's title; raises `SessionNotFound` where it is gone."""
        ...

    async def delete(self, session_id: str) -> None:
        """Remove a session and all its turns. One that is gone already is fine."""
        ...

    async def turns(self, session_id: str, limit: int, before: int | None = None) -> list[Turn]:
        """Return the newest `limit` turns (numbers below `before` where given), oldest first."""
        ...

    async def append(self, turn: Turn, *, title: str | None = None) -> None:
        """Store a turn whole, set the session's `updated_at` and list the session.

        Args:
            turn: the turn after the newest.
            title: takes the place of `UNTITLED`, and of no title that somebody gave.

        Raises:
            Conflict: the number is not the one after the newest. The store is as it was.
            SessionNotFound: the session was deleted meanwhile.
            InvalidRequest: the store cannot hold this turn (a size limit, a lone surrogate).
        """
        ...

    async def replace(self, turn: Turn, *, expected: str) -> None:
        """Put `turn` in the place of the one with its number and drop all later ones, atomically.

        Args:
            expected: request id of the turn to be replaced.

        Raises:
            Conflict: that turn is another one by now, or gone. The store is as it was.
            InvalidRequest: as of `append`.
        """
        ...

    async def set_feedback(self, session_id: str, number: int, feedback: Feedback | None) -> bool:
        """Set or clear a turn's feedback; False where there is no such turn."""
        ...

    async def set_cancel_mark(self, session_id: str, mark: str) -> None:
        """Set `Session.cancel_mark`, which the instance that generates reads about once a second.

        A session that is gone needs no mark: nothing happens.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and threads."""
        ...
