"""What the worker thread knows of each request, and the way its results take to the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from transformers import DynamicCache

from openchatkit.engines.detokenizer import Decoder, IncrementalDetokenizer
from openchatkit.engines.reply import ReplyAssembler
from openchatkit.engines.sampling import Sampler
from openchatkit.errors import EngineFailed, OpenChatKitError
from openchatkit.ports import Chunk, SamplingParameters

Result = Chunk | list[float] | OpenChatKitError
"""What comes out of a request: pieces of a reply, probabilities of the choices, or the failure."""


class Codec(Decoder, Protocol):
    """What is needed of a tokenizer here."""

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a prompt."""
        ...

    def encode_continuation(self, text: str, continuation: str) -> list[int]:
        """Return the tokens that continue those of `text`."""
        ...


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Results on their way from the worker thread to a consumer on an event loop.

    It has no bound, so that a slow consumer stalls nobody; a reply's length is its bound.
    """

    loop: asyncio.AbstractEventLoop
    results: asyncio.Queue[Result] = field(default_factory=asyncio.Queue)


def deliver(results: Iterable[tuple[Mailbox, Result]]) -> None:
    """Hand results over from any thread, with one callback for each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Mailbox, Result]]] = {}
    for mailbox, result in results:
        by_loop.setdefault(mailbox.loop, []).append((mailbox, result))
    for loop, posted in by_loop.items():
        try:
            loop.call_soon_threadsafe(_put, posted)
        except RuntimeError:  # the loop is closed, and whoever waited on it is gone
            continue


def _put(posted: Sequence[tuple[Mailbox, Result]]) -> None:
    for mailbox, result in posted:
        mailbox.results.put_nowait(result)


class Prefill:
    """A prompt on its way into a cache of its own, some tokens a step."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = tokens
        self.done = 0
        """Tokens that are in the cache."""
        # Without the model's configuration all layers keep all keys, those with a sliding window
        # too; the attention mask knows about the window.
        self.cache = DynamicCache()


class Generation:
    """A request for a reply."""

    def __init__(
        self, request_id: str, prompt: str, parameters: SamplingParameters, mailbox: Mailbox
    ) -> None:
        self.request_id = request_id
        self.mailbox = mailbox
        self.cancelled = False
        """Set by the event loop's thread, read by the worker between two steps."""
        self._prompt = prompt
        self._parameters = parameters
        self._reply = ReplyAssembler(parameters.stop)

    def begin(self, tokenizer: Codec, context_length: int) -> Prefill:
        """Return the prefill that the request starts with.

        Raises:
            EngineFailed: the prompt has no token, or fills the context.
        """
        prompt = tokenizer.encode(self._prompt)
        if not prompt:
            raise EngineFailed("the prompt is empty")
        if len(prompt) >= context_length:
            raise EngineFailed(f"the prompt fills the model's context of {context_length} tokens")
        self._prompt_length = len(prompt)
        self._most_tokens = min(len(prompt) + self._parameters.max_new_tokens, context_length)
        self.sampler = Sampler(self._parameters, prompt)
        self._text = IncrementalDetokenizer(tokenizer, prompt)
        return Prefill(prompt)

    @property
    def last_token(self) -> int:
        """The token whose successor comes next."""
        return self.sampler.tokens[-1]

    @property
    def generated(self) -> int:
        """Tokens of the reply so far."""
        return len(self.sampler.tokens) - self._prompt_length

    def accept(self, token: int, end_of_text: frozenset[int]) -> Chunk | None:
        """Add the next token and return the chunk that it makes, None where all its text is held back."""
        self.sampler.tokens.append(token)
        if token in end_of_text:
            return self._reply.push(self._text.flush(), 1, "stop")
        text = self._text.feed(token)
        if len(self.sampler.tokens) >= self._most_tokens:
            return self._reply.push(text + self._text.flush(), 1, "length")
        return self._reply.push(text, 1)

    def cancellation(self) -> Chunk:
        """Return the last chunk of a reply that was stopped."""
        last = self._reply.push("", 0, "cancelled")
        assert last is not None
        return last


class Scoring:
    """A request for the probabilities of some choices."""

    def __init__(self, prompt: str, choices: Sequence[str], mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.cancelled = False
        self.choices: list[list[int]] = []
        """The tokens of each choice, from `begin` on."""
        self._prompt = prompt
        self._choices = choices

    def begin(self, tokenizer: Codec, context_length: int) -> Prefill:
        """Return the prefill that the request starts with.

        Raises:
            EngineFailed: the prompt or a choice has no token, or they do not fit the context.
        """
        prompt = tokenizer.encode(self._prompt)
        self.choices = [tokenizer.encode_continuation(self._prompt, choice) for choice in self._choices]
        if not prompt or not all(self.choices):
            raise EngineFailed("the prompt or a choice is empty")
        if len(prompt) + max(map(len, self.choices)) > context_length:
            raise EngineFailed(f"the prompt exceeds the model's context of {context_length} tokens")
        return Prefill(prompt)


Request = Generation | Scoring
