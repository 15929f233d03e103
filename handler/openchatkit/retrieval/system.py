"""All sources behind one call (port `Retriever`).

Every source is asked every query at the same time, each within a time budget. One that is late or
fails costs its own passages and is named by a code; what happened goes to the log by its type.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from openchatkit.errors import InvalidRequest
from openchatkit.ports import Passage, Query, Reranker, Retrieval, Source
from openchatkit.retrieval.follow_up import follow_up_queries
from openchatkit.retrieval.passages import same

TIMEOUT = "timeout"
FAILED = "failed"
RERANKER = "reranker"
"""Its name among the failures."""

_log = logging.getLogger(__name__)


class RetrievalSystem:
    """Several sources, asked at once."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        timeout_s: float,
        min_score: float,
        reranker: Reranker | None = None,
        reranked: int = 20,
        reranker_min_score: float = 0.0,
        budgets: Mapping[str, float] | None = None,
    ) -> None:
        """Join sources.

        Args:
            sources: their names must differ.
            timeout_s: time budget of a source for a query, in seconds.
            min_score: passages that score less are dropped.
            reranker: puts what is left in order, and gives the passages its own scores.
            reranked: passages that it reads for a question.
            reranker_min_score: passages that score less with it are dropped.
            budgets: time budgets of single sources by name, in seconds, in place of `timeout_s`.
        """
        self._sources = {source.name: source for source in sources}
        if len(self._sources) != len(sources):
            raise ValueError("two sources have the same name")
        self._timeout_s = timeout_s
        self._budgets = dict(budgets or {})
        self._min_score = min_score
        self._reranker = reranker
        self._reranked = reranked
        self._reranker_min_score = reranker_min_score

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the sources."""
        return tuple(self._sources)

    def queries(self, question: str, earlier: Sequence[str]) -> list[str]:
        """Return what to search for: the question, and with its predecessor where it needs one."""
        return follow_up_queries(question, earlier)

    async def retrieve(self, queries: Sequence[Query], k: int, sources: Sequence[str] = ()) -> Retrieval:
        """Return at most `k` passages for the queries together; empty `sources` means all.

        Raises:
            InvalidRequest: a source that is not configured.
        """
        asked = (
            [self._source(name) for name in dict.fromkeys(sources)] if sources else [*self._sources.values()]
        )
        failures: dict[str, str] = {}
        most = k if self._reranker is None else max(k, self._reranked)
        calls = [self._search(source, query, most, failures) for query in queries for source in asked]
        found = await asyncio.gather(*calls)
        best = self._fuse([passage for passages in found for passage in passages], most)
        if self._reranker is not None and best and queries:
            # The last query of a follow-up carries the words that it leans on.
            best = await self._rerank(self._reranker, queries[-1].text, best, failures)
        return Retrieval(tuple(best[:k]), failures)

    async def _rerank(
        self, reranker: Reranker, question: str, passages: list[Passage], failures: dict[str, str]
    ) -> list[Passage]:
        """Return what a reranker lets pass, best first; all as it was where it is late or fails."""
        try:
            async with asyncio.timeout(self._timeout_s):
                scores = await reranker.scores(question, passages)
        except TimeoutError:
            failures[RERANKER] = TIMEOUT
            return passages
        except Exception as error:  # noqa: BLE001 - a model may fail in any way, the answer goes on without it
            failures[RERANKER] = FAILED
            _log.warning("the reranker failed: %s", type(error).__name__)
            return passages
        scored = [
            replace(passage, score=score)
            for passage, score in zip(passages, scores, strict=True)
            if score >= self._reranker_min_score
        ]
        return sorted(scored, key=lambda passage: -passage.score)

    async def passage(self, source: str, passage_id: str) -> Passage | None:
        """Return a passage by its id, None where it or its source is gone.

        Conversations outlive the configuration: a source that is not here any more is no error.
        """
        held = self._sources.get(source)
        return await held.passage(passage_id) if held else None

    def _source(self, name: str) -> Source:
        if name not in self._sources:
            known = ", ".join(self._sources) or "none"
            raise InvalidRequest(f"retrieval.sources: an unknown source; there are: {known}")
        return self._sources[name]

    async def _search(self, source: Source, query: Query, k: int, failures: dict[str, str]) -> list[Passage]:
        try:
            async with asyncio.timeout(self._budgets.get(source.name, self._timeout_s)):
                return await source.search(query, k)
        except TimeoutError:
            failures[source.name] = TIMEOUT
        except Exception as error:  # noqa: BLE001 - a source may fail in any way, the answer goes on without it
            failures[source.name] = FAILED
            _log.warning("source %s failed: %s", source.name, type(error).__name__)
        return []

    def _fuse(self, found: Sequence[Passage], k: int) -> list[Passage]:
        """Return the best passages, each once, with its best score over the queries.

        Taking turns between the queries, or adding their scores up, finds less: where a follow-up alone
        matches anything well, it is something else.
        """
        best: dict[tuple[str, str], Passage] = {}
        for passage in found:
            key = (passage.source, passage.id)
            if passage.score >= self._min_score and (key not in best or best[key].score < passage.score):
                best[key] = passage
        kept: list[Passage] = []
        for passage in sorted(best.values(), key=lambda passage: -passage.score):
            if len(kept) < k and not any(same(passage.text, other.text) for other in kept):
                kept.append(passage)
        return kept
