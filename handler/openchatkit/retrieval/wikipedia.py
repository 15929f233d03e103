"""Wikipedia: the nearest sentences of a prepared index, with the neighbours that belong to them.

    index = WikipediaIndex.load(prepared, encoder)
    passages = index.search("Who founded the Bank of England?", k=1, w=5, w_th=0.5)

The algorithm is OpenChatKit's: embed the query by `mean_pooling`, take the best sentences of the Faiss
index, and widen each by up to `w` neighbours on each side as long as their cosine to the hit stays over
`w_th`. Differences, all on purpose: a passage never leaves its article (where the table names articles) nor
wraps around the table's ends; the cosine is one (the original divides by one of the norms twice); neighbours'
vectors come out of the index where it keeps them whole, instead of being embedded anew at every query; index
and sentences are memory-mapped; a large index that compares all its vectors is searched through lists that
`wikipedia_prepare` has made over it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import quote

import faiss
import numpy as np
from numpy.typing import NDArray

from openchatkit.ports import Passage, Query
from openchatkit.retrieval.faiss_files import FlatRows, keeps_vectors, map_index
from openchatkit.retrieval.sentence_table import SentenceRow, SentenceTable
from openchatkit.retrieval.vectors import VectorIndex
from openchatkit.retrieval.wikipedia_prepare import PreparedWikipedia

SOURCE = "wikipedia"
ARTICLE_URL = "https://en.wikipedia.org/wiki/"
NO_TITLE = "Wikipedia"
MAX_WINDOW = 20
MAX_RESULTS = 100

Vectors = NDArray[np.float32]


class PoolingEncoder(Protocol):
    """An encoder that gives its vectors as `mean_pooling` leaves them, not brought to unit length."""

    def pool(self, texts: Sequence[str]) -> Vectors:
        """Return vectors, shape `(len(texts), dimension)`, float32."""
        ...


class WikipediaIndex:
    """A Faiss index and the sentences that its vectors stand for. Safe for many threads."""

    def __init__(
        self,
        index: faiss.Index,
        table: SentenceTable,
        encoder: PoolingEncoder,
        *,
        listed: VectorIndex | None = None,
    ) -> None:
        """Join an index and its table.

        Args:
            index: the vectors.
            table: the sentences.
            encoder: the one that made the vectors.
            listed: a faster way to the same vectors; None: the index is searched itself.

        Raises:
            ValueError: they do not have one row for each vector, or the encoder is another one.
        """
        if index.ntotal != len(table):
            raise ValueError(f"the index has {index.ntotal} vectors, the table {len(table)} sentences")
        dimension = encoder.pool(["dimension"]).shape[1]
        if index.d != dimension:
            raise ValueError(f"the index has {index.d} dimensions, the encoder {dimension}")
        self._index = index
        self._listed = listed
        self._table = table
        self._encoder = encoder
        self._keeps_vectors = keeps_vectors(index)

    @classmethod
    def load(
        cls, prepared: PreparedWikipedia, encoder: PoolingEncoder, *, nprobe: int | None = None
    ) -> WikipediaIndex:
        """Map a prepared index.

        Args:
            prepared: its files.
            encoder: the one that made its vectors.
            nprobe: inverted lists that a query visits; None keeps what the index was saved with.

        Raises:
            ValueError: the files do not belong together, or to the encoder.
            RuntimeError: no Faiss index.
        """
        index = map_index(prepared.index)
        if nprobe is not None:
            faiss.ParameterSpace().set_index_parameter(index, "nprobe", nprobe)
        listed = None
        if prepared.lists is not None:
            # Without lists a search reads every vector, and mapping them is the right thing.
            rows = FlatRows.of(prepared.index, index)
            read = None if rows is None else rows.read
            listed = VectorIndex.over(index, prepared.lists.path, prepared.lists.entry, read)
        return cls(index, SentenceTable(prepared.table), encoder, listed=listed)

    def search(self, query: str, k: int = 1, w: int = 5, w_th: float = 0.5) -> list[Passage]:
        """Return at most `k` passages, best first. Blocking.

        Args:
            query: a question.
            k: sentences to find, 1 to 100. Two that lie in one passage are given once.
            w: most neighbours on each side, 0 to 20.
            w_th: a neighbour's cosine to the hit must be over it.
        """
        if not (1 <= k <= MAX_RESULTS and 0 <= w <= MAX_WINDOW):
            raise ValueError(f"k must be 1 to {MAX_RESULTS} and w 0 to {MAX_WINDOW}")
        [pooled] = self._encoder.pool([query])
        passages: list[Passage] = []
        covered: set[int] = set()
        for row in self.nearest(pooled, k):
            if row in covered:
                continue
            first, last, score = self._widen(row, pooled, w, w_th)
            covered.update(range(first, last + 1))
            passages.append(self._passage(first, last, score))
        return passages

    def nearest(self, query: Vectors, k: int) -> list[int]:
        """Return the rows of the `k` sentences nearest to a query's vector, best first."""
        if self._listed is not None:
            found: list[int] = self._listed.nearest(query, k)[1].tolist()
            return found
        _, rows = self._index.search(query.reshape(1, -1), k)
        return [row for row in rows[0].tolist() if row >= 0]  # Faiss fills up with -1 where it finds fewer

    def passage(self, passage_id: str) -> Passage | None:
        """Return a passage by its id, None where this index does not hold it."""
        numbers, _, _ = passage_id.partition("@")
        first, _, last = numbers.partition("-")
        if not (first.isdecimal() and last.isdecimal()) or len(numbers) > 40:
            return None
        if not 0 <= int(first) <= int(last) < len(self._table) or int(last) - int(first) > 2 * MAX_WINDOW:
            return None
        found = self._passage(int(first), int(last), score=0.0)
        return found if found.id == passage_id else None

    def _widen(self, hit: int, query: Vectors, w: int, w_th: float) -> tuple[int, int, float]:
        """Return the first and last row of the passage around a hit, and the hit's cosine to the query."""
        before, after = self._neighbours(hit, -1, w), self._neighbours(hit, 1, w)
        rows = [hit, *(row for row, _ in before), *(row for row, _ in after)]
        texts = [self._table.row(hit).text, *(text for _, text in before), *(text for _, text in after)]
        vectors = _unit(self._vectors(rows, texts))
        alike = vectors @ vectors[0] > w_th
        first = hit - _run(alike[1 : 1 + len(before)])
        last = hit + _run(alike[1 + len(before) :])
        return first, last, float(vectors[0] @ _unit(query))

    def _neighbours(self, hit: int, step: int, w: int) -> list[tuple[int, str]]:
        """Return up to `w` rows on one side and their texts, nearest first, all of the hit's article."""
        article, found = self._table.row(hit), list[tuple[int, str]]()
        for row in range(hit + step, hit + step * (w + 1), step):
            if not 0 <= row < len(self._table):
                break
            sentence = self._table.row(row)
            if not sentence.same_article(article):
                break
            found.append((row, sentence.text))
        return found

    def _vectors(self, rows: Sequence[int], texts: Sequence[str]) -> Vectors:
        if self._listed is not None:
            return self._listed.vectors(rows)
        if self._keeps_vectors:
            vectors: Vectors = self._index.reconstruct_batch(np.asarray(rows, dtype=np.int64))
            return vectors
        return self._encoder.pool(texts)

    def _passage(self, first: int, last: int, score: float) -> Passage:
        rows = [self._table.row(row) for row in range(first, last + 1)]
        text = " ".join(row.text.strip() for row in rows)
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
        return Passage(
            id=f"{first}-{last}@{digest}",
            source=SOURCE,
            title=rows[0].title or NO_TITLE,
            text=text,
            score=score,
            url=_address(rows[0]),
        )


class WikipediaSource:
    """The index as a source (port `Source`). It embeds the query itself: its encoder is its own."""

    name = SOURCE

    def __init__(self, index: WikipediaIndex, *, w: int = 5, w_th: float = 0.5) -> None:
        self._index = index
        self._w = w
        self._w_th = w_th

    async def search(self, query: Query, k: int) -> list[Passage]:
        """Return at most `k` passages, best first."""
        return await asyncio.to_thread(self._index.search, query.text, k, self._w, self._w_th)

    async def passage(self, passage_id: str) -> Passage | None:
        """Return a passage by its id, None where the index holds it no more."""
        return await asyncio.to_thread(self._index.passage, passage_id)


def _run(flags: NDArray[np.bool_]) -> int:
    """Return how many are true before the first that is not."""
    return int(np.argmin(flags)) if not flags.all() else len(flags)


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit


def _address(row: SentenceRow) -> str | None:
    if row.url:
        return row.url
    return ARTICLE_URL + quote(row.title.replace(" ", "_")) if row.title else None
