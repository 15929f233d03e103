"""The source `documents`: passages from the user's own files (port `Source`).

    source = DocumentSource.build([Path("local/library")], encoder=encoder, cache=Path("cache"))
    passages = await source.search(Query("What was Orla Freight's revenue in 2025?"), k=3)

A search takes the nearest sentences by cosine and those with the question's rare words, ranks them by
both, and widens each hit by its neighbours (`passages.widen`). Vectors of neighbours come from the
index; nothing but the question is ever embedded at a query.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openchatkit.ports import Embedding, Encoder, Passage, Query
from openchatkit.retrieval.documents import Document, Skipped, read_library
from openchatkit.retrieval.index import IndexedEncoder, IndexUnusable, LibraryIndex, Progress
from openchatkit.retrieval.lexical import LexicalIndex, terms
from openchatkit.retrieval.passages import Span, Window, join, same, widen

CANDIDATES = 50
"""Sentences that each of the two rankings puts up."""
LEXICAL_WEIGHT = 0.3
TITLE_WEIGHT = 0.7
"""Of a word that stands in the title or the heading only."""
LEANING_WEIGHT = 0.5
"""Of a word that stands only in the sentence that this one leans on."""

_log = logging.getLogger(__name__)


class DocumentSource:
    """A library that is searched. It never changes: a new state of the files is a new source."""

    name = "documents"

    def __init__(
        self,
        index: LibraryIndex,
        encoder: Encoder,
        *,
        skipped: Sequence[Skipped] = (),
        window: Window | None = None,
    ) -> None:
        self._index = index
        self._encoder = encoder
        self._window = window or Window()
        self._lexical = LexicalIndex(_weighed_terms(doc, n) for doc in index.documents for n in _numbers(doc))
        self.skipped = tuple(skipped)
        """Files that were left out, and why."""

    @classmethod
    def build(
        cls,
        paths: Sequence[Path],
        *,
        encoder: IndexedEncoder,
        cache: Path | None = None,
        progress: Progress | None = None,
        window: Window | None = None,
    ) -> DocumentSource:
        """Read and index files. Blocking: 250 sentences a second on two cores.

        Args:
            paths: folders or files.
            encoder: makes the vectors.
            cache: a folder of our own where the index is kept; only new sentences are embedded then.
            progress: called with (done, total) sentences.
            window: how far passages reach.

        Raises:
            FileNotFoundError: one of `paths` does not exist.
        """
        library = read_library(paths)
        previous = _cached(cache, encoder.identity) if cache else None
        index = LibraryIndex.build(library.documents, encoder, previous=previous, progress=progress)
        if cache and (previous is None or previous.documents != index.documents):
            try:
                index.save(cache, encoder=encoder.identity)
            except OSError as error:
                _log.warning("the index is not kept: %s", type(error).__name__)
        for file in library.skipped:
            _log.info("skipped %s: %s", file.path, file.reason)
        return cls(index, encoder, skipped=library.skipped, window=window)

    @property
    def documents(self) -> tuple[Document, ...]:
        """The documents, in the order of their paths."""
        return self._index.documents

    @property
    def sentences(self) -> int:
        """How many sentences are indexed."""
        return len(self._index)

    def similarity(self, embedding: Embedding) -> float:
        """Return the cosine of the nearest sentence, -1 where there is none."""
        scores, _ = self._index.nearest(embedding, 1)
        return float(scores[0]) if len(scores) else -1.0

    async def search(self, query: Query, k: int) -> list[Passage]:
        """Return at most `k` passages, best first.

        A score is `(cosine + 0.3 * coverage) / 1.3`, in [-1, 1], where coverage is the share of the
        question's rare words that stand in the sentence, its title or its heading.
        """
        return await asyncio.to_thread(self._search, query, k)

    async def passage(self, passage_id: str) -> Passage | None:
        """Return a passage by its id, None where its file is gone or says something else by now."""
        path, _, rest = passage_id.rpartition("#")
        numbers, _, digest = rest.partition("@")
        first, _, last = numbers.partition("-")
        document = self._index.find(path)
        if document is None or not (first.isdecimal() and last.isdecimal()) or len(numbers) > 20:
            return None
        count = len(self._index.documents[document].sentences)
        if not 1 <= int(first) <= int(last) <= count:
            return None
        found = self._passage(Span(document, int(first) - 1, int(last) - 1, score=0.0))
        return found if found.id == f"{path}#{first}-{last}@{digest}" else None

    def _search(self, query: Query, k: int) -> list[Passage]:
        if not len(self._index) or k < 1:
            return []
        embedding = query.embedding if query.embedding is not None else self._encoder.encode([query.text])[0]
        spans: list[Span] = []
        for row, score in self._ranked(query.text, embedding):
            document, number = self._index.locate(row)
            if any(s.document == document and s.first <= number <= s.last for s in spans):
                continue
            text = self._index.documents[document].sentences[number].text
            # Compared with whole passages: a copy's second sentence is its original's neighbour.
            if any(same(text, self._text(span)) for span in spans):
                continue
            if len(spans) >= k:
                break
            sentences = self._index.documents[document].sentences
            join(spans, self._span(document, number, row, score), number, sentences)
        return [self._passage(span) for span in sorted(spans, key=lambda span: -span.score)]

    def _ranked(self, text: str, embedding: Embedding) -> list[tuple[int, float]]:
        """Return rows and scores, best first; equal ones newest document first, then as they stand."""
        _, nearest = self._index.nearest(embedding, CANDIDATES)
        coverage = self._lexical.coverage(text)
        worded = np.argsort(-coverage, kind="stable")[:CANDIDATES]
        rows = np.union1d(nearest, worded[coverage[worded] > 0])
        cosines = self._index.vectors(rows.tolist()) @ embedding
        scores = (cosines + LEXICAL_WEIGHT * coverage[rows]) / (1 + LEXICAL_WEIGHT)
        dates = {row: self._index.documents[self._index.locate(row)[0]].date or "" for row in rows.tolist()}
        ranked = sorted(zip(rows.tolist(), scores.tolist(), strict=True), key=lambda pair: dates[pair[0]])
        ranked.reverse()
        return sorted(ranked, key=lambda pair: -pair[1])

    def _span(self, document: int, number: int, row: int, score: float) -> Span:
        hit = self._index.vectors([row])[0]

        def similarity(neighbour: int) -> float:
            return float(self._index.vectors([self._index.row(document, neighbour)])[0] @ hit)

        sentences = self._index.documents[document].sentences
        first, last = widen(number, sentences, similarity, self._window)
        return Span(document, first, last, score)

    def _text(self, span: Span) -> str:
        sentences = self._index.documents[span.document].sentences[span.first : span.last + 1]
        return " ".join(sentence.text for sentence in sentences)

    def _passage(self, span: Span) -> Passage:
        document = self._index.documents[span.document]
        text = self._text(span)
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
        return Passage(
            id=f"{document.path}#{span.first + 1}-{span.last + 1}@{digest}",
            source=self.name,
            title=document.title,
            text=text,
            score=span.score,
            url=document.url,
            date=document.date,
            place=document.sentences[span.first].place,
        )


def _cached(cache: Path, encoder: str) -> LibraryIndex | None:
    try:
        return LibraryIndex.load(cache, encoder=encoder)
    except IndexUnusable:
        return None


def _numbers(document: Document) -> range:
    return range(len(document.sentences))


def _weighed_terms(document: Document, number: int) -> dict[str, float]:
    """Return what a sentence can be found by: its own words, its title's, those it leans on."""
    sentence = document.sentences[number]
    about = f"{document.title} {document.metadata.get('company', '')} {sentence.place or ''}"
    weights = dict.fromkeys(terms(about), TITLE_WEIGHT)
    if sentence.leans:
        for term in terms(document.sentences[number - 1].text):
            weights.setdefault(term, LEANING_WEIGHT)
    return weights | dict.fromkeys(terms(sentence.text), 1.0)
