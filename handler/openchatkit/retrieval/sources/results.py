"""What a source outside finds, and how it becomes passages that compare with those of an index.

Engines and feeds have no scores, or scores of their own kind. So each result is embedded by the encoder
that embeds the question, and scores the cosine of its best sentences to it: the scale of the user's own
documents. A cache keeps the passages that were given lately, so that a citation can be opened.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from openchatkit.ports import Embedding, Encoder, Passage, Query, Source
from openchatkit.retrieval.splitter import split_sentences

MAX_KEPT = 4096
WINDOW = 3
"""Sentences of a passage that is cut out of a longer text."""
MAX_SENTENCES = 200
"""Of one result that are looked at: embedding them is the time it costs."""
MAX_PASSAGE_CHARACTERS = 1200
MAX_TITLE_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Result:
    """Something found outside: not yet cut to a passage, nor scored."""

    title: str
    text: str
    url: str | None = None
    date: str | None = None
    """ISO 8601."""
    id: str | None = None


class PassageMaker:
    """Turns results into passages of one source."""

    def __init__(self, source: str, encoder: Encoder) -> None:
        self._source = source
        self._encoder = encoder
        self._kept: OrderedDict[str, Passage] = OrderedDict()

    def make(self, query: Query, results: Sequence[Result], k: int) -> list[Passage]:
        """Return at most `k` passages, best first, at most one of each result. Blocking."""
        windows = [(result, window) for result in results for window in _windows(result.text)]
        if not windows or k < 1:
            return []
        question = self.embedding(query)
        vectors = self._encoder.encode([f"{result.title}. {window}" for result, window in windows])
        best: dict[int, tuple[float, Result, str]] = {}
        for (result, window), score in zip(windows, (vectors @ question).tolist(), strict=True):
            if id(result) not in best or best[id(result)][0] < score:
                best[id(result)] = (score, result, window)
        ranked = sorted(best.values(), key=lambda entry: -entry[0])[:k]
        return [self.keep(self._passage(result, window, score)) for score, result, window in ranked]

    def embedding(self, query: Query) -> Embedding:
        """Return the question's vector, `(dimension,)`, computed where it is not there yet."""
        return query.embedding if query.embedding is not None else self._encoder.encode([query.text])[0]

    def keep(self, passage: Passage) -> Passage:
        """Remember a passage for `find`, and return it."""
        self._kept[passage.id] = passage
        self._kept.move_to_end(passage.id)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return passage

    def find(self, passage_id: str) -> Passage | None:
        """Return a passage that was given lately."""
        return self._kept.get(passage_id)

    def _passage(self, result: Result, text: str, score: float) -> Passage:
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
        name = result.id or result.url or result.title
        identity = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:16]
        return Passage(
            id=f"{identity}@{digest}",
            source=self._source,
            title=result.title[:MAX_TITLE_CHARACTERS],
            text=text,
            score=score,
            url=result.url,
            date=result.date,
        )


class Rescored:
    """A source whose passages score the cosine of the common encoder, not its own (port `Source`)."""

    def __init__(self, source: Source, encoder: Encoder) -> None:
        self._source = source
        self._encoder = encoder

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    async def search(self, query: Query, k: int) -> list[Passage]:
        """Return at most `k` passages, best first."""
        found = await self._source.search(query, k)
        return await asyncio.to_thread(self._rescore, query, found) if found else []

    async def passage(self, passage_id: str) -> Passage | None:
        """Return a passage by its id."""
        return await self._source.passage(passage_id)

    def _rescore(self, query: Query, found: Sequence[Passage]) -> list[Passage]:
        texts = [f"{passage.title}. {passage.text}" for passage in found]
        if query.embedding is None:
            question, *vectors = self._encoder.encode([query.text, *texts])
        else:
            question, vectors = query.embedding, [*self._encoder.encode(texts)]
        scored = [
            replace(passage, score=float(vector @ question))
            for passage, vector in zip(found, vectors, strict=True)
        ]
        return sorted(scored, key=lambda passage: -passage.score)


def _windows(text: str) -> Iterable[str]:
    """Yield the pieces of a text that a passage may consist of: all of a short one."""
    sentences = split_sentences(text)[:MAX_SENTENCES]
    if len(sentences) <= WINDOW:
        whole = " ".join(sentences)[:MAX_PASSAGE_CHARACTERS]
        return [whole] if whole else []
    return [
        " ".join(sentences[at : at + WINDOW])[:MAX_PASSAGE_CHARACTERS]
        for at in range(len(sentences) - WINDOW + 1)
    ]
