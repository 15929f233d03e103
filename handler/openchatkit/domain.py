"""The out-of-domain guard: tells whether a question is about what the bot is for.

The bot's domain is described in a few sentences or example questions, one a line. A question is in the
domain where its embedding is like enough to one of them, or to the nearest passage of the bot's own
documents. Words of courtesy always are: nobody wants to hear that `Thank you` is off topic.

It judges likeness of topic, nothing else. Harm is the moderation's business.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import numpy as np

from openchatkit.ports import Embedding, Encoder, Query

COURTESIES = (
    "Hi!",
    "Hello, how are you?",
    "Good morning.",
    "Thank you very much.",
    "Thanks, you helped me a lot.",
    "Goodbye, have a good day.",
    "Who are you?",
    "What can you do?",
)
COURTESY_SIMILARITY = 0.6
"""Cosine above which a text is small talk; questions about the world stay well below."""

_SENTENCES = re.compile(r"\n+|(?<=[.!?])\s+")


class EmbeddingDomainGuard:
    """A guard over sentence embeddings (port `DomainGuard`)."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        description: str,
        threshold: float,
        reply: str,
        nearest: Callable[[Embedding], float] | None = None,
    ) -> None:
        """Describe a domain. Blocking: the description is embedded here.

        Args:
            encoder: must be the one whose embeddings the queries carry.
            description: sentences or example questions; each is an example of its own.
            threshold: least cosine to one of them, in [-1, 1].
            reply: what the bot says to other questions.
            nearest: cosine of a vector, `(dimension,)`, to the nearest thing the bot knows. Blocking.

        Raises:
            ValueError: the description is empty.
        """
        examples = [part.strip() for part in _SENTENCES.split(description) if part.strip()]
        if not examples:
            raise ValueError("the description of the domain is empty")
        vectors = encoder.encode([*examples, *COURTESIES])
        self._examples, self._courtesies = vectors[: len(examples)], vectors[len(examples) :]
        self._encoder = encoder
        self._threshold = threshold
        self._reply = reply
        self._nearest = nearest

    @property
    def reply(self) -> str:
        """What the bot says instead."""
        return self._reply

    async def in_domain(self, query: Query) -> bool:
        """Return whether a question belongs here. Its embedding is made only where it carries none."""
        return await asyncio.to_thread(self._in_domain, query)

    def similarity(self, embedding: Embedding) -> float:
        """Return how like a question is to the domain, a cosine in [-1, 1]."""
        known = self._nearest(embedding) if self._nearest else -1.0
        return max(float(np.max(self._examples @ embedding)), known)

    def _in_domain(self, query: Query) -> bool:
        embedding = query.embedding if query.embedding is not None else self._encoder.encode([query.text])[0]
        if float(np.max(self._courtesies @ embedding)) >= COURTESY_SIMILARITY:
            return True
        return self.similarity(embedding) >= self._threshold
