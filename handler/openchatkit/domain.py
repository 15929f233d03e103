"""The out-of-domain guard: tells whether a question is about what the bot is for.

The bot's domain is described in a few sentences or example questions, one a line, or by its own documents,
or by both. A question is in the domain where its embedding is like enough to one of the sentences, or to
the nearest passage of the documents. `calibrate` fits the threshold to questions of both kinds. Words of
courtesy always are in it: nobody wants to hear that `Thank you` is off topic.

It judges likeness of topic, nothing else. Harm is the moderation's business.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
        description: str | None,
        threshold: float,
        reply: str,
        nearest: Callable[[Embedding], float] | None = None,
    ) -> None:
        """Describe a domain. Blocking: the description is embedded here.

        Args:
            encoder: must be the one whose embeddings the queries carry.
            description: sentences or example questions; each is an example of its own. None where
                `nearest` alone tells.
            threshold: least cosine to one of them, in [-1, 1].
            reply: what the bot says to other questions.
            nearest: cosine of a vector, `(dimension,)`, to the nearest thing the bot knows. Blocking.

        Raises:
            ValueError: the description is empty, or there is neither one nor `nearest`.
        """
        examples = [part.strip() for part in _SENTENCES.split(description or "") if part.strip()]
        if not examples and (description is not None or nearest is None):
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
        return float(max([known, *(self._examples @ embedding).tolist()]))

    def is_courtesy(self, embedding: Embedding) -> bool:
        """Return whether a text is small talk, which is always in the domain."""
        return float(np.max(self._courtesies @ embedding)) >= COURTESY_SIMILARITY

    def _in_domain(self, query: Query) -> bool:
        embedding = query.embedding if query.embedding is not None else self._encoder.encode([query.text])[0]
        return self.is_courtesy(embedding) or self.similarity(embedding) >= self._threshold


@dataclass(frozen=True, slots=True)
class TradeOff:
    """What a threshold would do: shares in [0, 1]."""

    threshold: float
    kept: float
    """Of the questions that belong to the domain, how many are answered."""
    refused: float
    """Of the others, how many are overridden."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The threshold that keeps and refuses best on average, and what others would do."""

    best: TradeOff
    auroc: float
    """Chance that a question of the domain is more like it than another one; ties count half."""
    trade_offs: tuple[TradeOff, ...]
    """Every threshold at which the shares change, the lowest first."""


def calibrate(inside: Sequence[float], outside: Sequence[float]) -> Calibration:
    """Fit the threshold to similarities of questions that belong to the domain and of some that do not.

    A threshold lies half-way between two neighbouring similarities. Of equally good ones the widest gap
    wins: new questions fall into it least often.

    Raises:
        ValueError: one of the lists is empty.
    """
    if not inside or not outside:
        raise ValueError("both lists need at least one question")
    own, other = np.array(inside), np.array(outside)
    values = np.unique(np.concatenate([own, other]))
    middles = (values[:-1] + values[1:]) / 2
    places = [float(values[0]) - 0.01, *middles.tolist(), float(values[-1]) + 0.01]
    gaps = [0.0, *np.diff(values).tolist(), 0.0]
    found = tuple(
        TradeOff(place, float((own >= place).mean()), float((other < place).mean())) for place in places
    )
    best = max(range(len(found)), key=lambda n: (round(found[n].kept + found[n].refused, 9), gaps[n]))
    above = own[:, None] - other[None, :]
    return Calibration(found[best], float(((above > 0) + 0.5 * (above == 0)).mean()), found)
