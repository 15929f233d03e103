"""A source that answers from an index of documents (port `Source`).

    source = DocumentSource.build([Path("local/library")], encoder=encoder, cache=Path("cache"))
    source = DocumentSource.open(Path("index"), encoder=encoder)
    passages = await source.search(Query("What was Orla Freight's revenue in 2025?"), k=3)

A search takes the nearest sentences by cosine and those that BM25 puts first, ranks them by both, and
widens each hit by its neighbours (`passages.widen`). Vectors of neighbours come from the index; nothing
but the question is ever embedded at a query.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openchatkit.ports import Embedding, Encoder, Filters, Passage, Query
from openchatkit.retrieval.document_table import DocumentSentences, Found, Header
from openchatkit.retrieval.documents import Skipped
from openchatkit.retrieval.index import IndexedEncoder, LibraryIndex
from openchatkit.retrieval.lexical import coverage
from openchatkit.retrieval.passages import Span, Window, join, same, widen

CANDIDATES = 50
"""Sentences that each of the two rankings puts up."""
LEXICAL_WEIGHT = 0.3

Progress = Callable[[int, int], None]
"""Called with the sentences that are embedded and those that are to be, 0 of n first."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Place:
    """A document that hits were found in."""

    header: Header
    sentences: DocumentSentences


class DocumentSource:
    """An index that is searched. It never changes: a new state of the files is a new source."""

    def __init__(
        self,
        index: LibraryIndex,
        encoder: Encoder,
        *,
        name: str | None = None,
        window: Window | None = None,
    ) -> None:
        self.name = name or index.manifest.name
        self._index = index
        self._encoder = encoder
        self._window = window or Window()

    @classmethod
    def open(cls, folder: Path, *, encoder: IndexedEncoder, window: Window | None = None) -> DocumentSource:
        """Open an index directory.

        Raises:
            IndexUnusable: there is none, it is damaged, or another encoder's.
        """
        return cls(LibraryIndex.open(folder, encoder=encoder.identity), encoder, window=window)

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
        # Late: an endpoint that opens an index needs no readers.
        from openchatkit.retrieval.indexing.builder import BuildBusy, Report, build_index
        from openchatkit.retrieval.indexing.workers import Tools

        def heard(step: str, done: int, total: int) -> None:
            if progress is not None and step == "embedding":
                progress(done, total)

        def built(folder: Path) -> Report:
            sources = [str(path) for path in paths]
            return build_index(sources, folder, tools=Tools(lambda: encoder), progress=heard)

        for path in paths:
            path.stat()
        report = temporary = None
        if cache is not None:
            try:
                report, folder = built(cache), cache
            except (OSError, BuildBusy) as error:
                _log.warning("the index is not kept: %s", type(error).__name__)
        if report is None:
            folder = temporary = Path(tempfile.mkdtemp(prefix="openchatkit-index-"))
            report = built(folder)
        source = cls.open(folder, encoder=encoder, window=window)
        source._log_skipped()
        if temporary is not None:
            weakref.finalize(source, shutil.rmtree, temporary, ignore_errors=True)
        if progress is not None and not report.changed:
            progress(0, 0)
        return source

    def _log_skipped(self) -> None:
        for file in self.skipped:
            _log.info("skipped %s: %s", file.path, file.reason)

    @property
    def documents(self) -> int:
        """How many documents there are."""
        return self._index.manifest.counts.documents

    @property
    def sentences(self) -> int:
        """How many sentences are searched."""
        return len(self._index)

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Files that were left out or read in part, and why."""
        return tuple(self._index.table.skipped())

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
        return await asyncio.to_thread(self._by_id, passage_id)

    def _by_id(self, passage_id: str) -> Passage | None:
        path, _, rest = passage_id.rpartition("#")
        numbers, _, digest = rest.partition("@")
        first, _, last = numbers.partition("-")
        if not (first.isdecimal() and last.isdecimal()) or len(numbers) > 20:
            return None
        header = self._index.table.find(path)
        if header is None or not 1 <= int(first) <= int(last) <= header.sentences:
            return None
        place = _Place(header, DocumentSentences(self._index.table, header))
        found = self._passage(Span(header.id, int(first) - 1, int(last) - 1, score=0.0), place)
        return found if found.id == f"{path}#{first}-{last}@{digest}" else None

    def _search(self, query: Query, k: int) -> list[Passage]:
        if not len(self._index) or k < 1:
            return []
        embedding = query.embedding if query.embedding is not None else self._encoder.encode([query.text])[0]
        spans: list[Span] = []
        places: dict[int, _Place] = {}
        for found, score in self._ranked(query.text, embedding, query.filters):
            document, number = found.document.id, found.number
            if any(s.document == document and s.first <= number <= s.last for s in spans):
                continue
            # Compared with whole passages: a copy's second sentence is its original's neighbour.
            if any(same(found.sentence.text, self._text(span, places)) for span in spans):
                continue
            if len(spans) >= k:
                break
            if document not in places:
                places[document] = _Place(
                    found.document, DocumentSentences(self._index.table, found.document)
                )
            sentences = places[document].sentences
            join(spans, self._span(found, sentences, score), number, sentences)
        ordered = sorted(spans, key=lambda span: -span.score)
        return [self._passage(span, places[span.document]) for span in ordered]

    def _ranked(self, text: str, embedding: Embedding, filters: Filters) -> list[tuple[Found, float]]:
        """Return rows and scores, best first; equal ones newest document first, then as they stand."""
        _, nearest = self._index.nearest(embedding, CANDIDATES, filters)
        rarities = self._index.words.rarities(text)
        worded = [row for row, _ in self._index.words.search(rarities, CANDIDATES, filters)]
        rows = np.union1d(nearest, np.array(worded, dtype=np.int64))
        cosines = (self._index.vectors(rows) @ embedding).tolist()
        ranked = [
            (found, (cosine + LEXICAL_WEIGHT * coverage(found, rarities)) / (1 + LEXICAL_WEIGHT))
            for found, cosine in zip(self._index.table.found(rows), cosines, strict=True)
        ]
        ranked.sort(key=lambda pair: pair[0].document.date or "", reverse=True)
        return sorted(ranked, key=lambda pair: -pair[1])

    def _span(self, found: Found, sentences: DocumentSentences, score: float) -> Span:
        reach = self._window.sentences
        first = max(0, found.number - reach)
        last = min(len(sentences) - 1, found.number + reach)
        start = found.document.first
        rows = self._index.table.rows_of(start + first, start + last)
        # A sentence that stands elsewhere as well has no vector of its own.
        near = [number for number in range(first, last + 1) if rows[start + number] is not None]
        vectors = self._index.vectors([rows[start + number] or 0 for number in near])
        cosines = dict(zip(near, vectors @ vectors[near.index(found.number)], strict=True))
        bounds = widen(found.number, sentences, lambda number: float(cosines.get(number, -1.0)), self._window)
        return Span(found.document.id, *bounds, score)

    def _text(self, span: Span, places: dict[int, _Place]) -> str:
        return _joined(places[span.document].sentences, span)

    def _passage(self, span: Span, place: _Place) -> Passage:
        text = _joined(place.sentences, span)
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
        first = place.sentences[span.first]
        page = f"page {first.page}" if first.page is not None else None
        return Passage(
            id=f"{place.header.path}#{span.first + 1}-{span.last + 1}@{digest}",
            source=self.name,
            title=place.header.title,
            text=text,
            score=span.score,
            url=place.header.url,
            date=place.header.date,
            place=", ".join(part for part in (first.place, page) if part) or None,
        )


def _joined(sentences: DocumentSentences, span: Span) -> str:
    return " ".join(sentence.text for sentence in sentences[span.first : span.last + 1])
