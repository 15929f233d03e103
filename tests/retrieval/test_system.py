from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

import pytest

from openchatkit.errors import InvalidRequest
from openchatkit.ports import Passage, Query
from openchatkit.retrieval.system import RetrievalSystem


def passage(name: str, score: float, source: str = "one", text: str = "") -> Passage:
    return Passage(name, source, f"title of {name}", text or f"text of the passage {name} alone", score)


class FakeSource:
    """Answers each query with what it was given for it; any other question is an error."""

    def __init__(
        self, name: str, answers: Mapping[str, list[Passage] | Exception], delay_s: float = 0.0
    ) -> None:
        self.name = name
        self._answers = answers
        self._delay_s = delay_s

    async def search(self, query: Query, k: int) -> list[Passage]:
        await asyncio.sleep(self._delay_s)
        answer = self._answers[query.text]
        if isinstance(answer, Exception):
            raise answer
        return answer[:k]

    async def passage(self, passage_id: str) -> Passage | None:
        return passage(passage_id, 0.0, self.name)


def system(*sources: FakeSource, timeout_s: float = 5.0, min_score: float = 0.0) -> RetrievalSystem:
    return RetrievalSystem(sources, timeout_s=timeout_s, min_score=min_score)


async def test_the_best_of_all_sources_and_queries_come_first() -> None:
    one = FakeSource("one", {"q": [passage("a", 0.5), passage("b", 0.4)], "r": [passage("a", 0.7)]})
    two = FakeSource("two", {"q": [passage("a", 0.6, "two", "other words here")], "r": []})
    found = await system(one, two).retrieve([Query("q"), Query("r")], 3)
    assert [(p.source, p.id, p.score) for p in found.passages] == [
        ("one", "a", 0.7),
        ("two", "a", 0.6),
        ("one", "b", 0.4),
    ]
    assert found.failures == {}


async def test_a_source_that_fails_or_is_late_costs_its_own_passages_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = FakeSource("good", {"canary": [passage("a", 0.5)]})
    bad = FakeSource("bad", {"canary": RuntimeError("canary")})
    late = FakeSource("late", {"canary": [passage("b", 0.9)]}, delay_s=30)
    start = time.perf_counter()
    with caplog.at_level(logging.DEBUG):
        found = await system(good, bad, late, timeout_s=0.1).retrieve([Query("canary")], 3)
    assert time.perf_counter() - start < 5
    assert [p.id for p in found.passages] == ["a"]
    assert found.failures == {"bad": "failed", "late": "timeout"}
    assert "RuntimeError" in caplog.text
    assert "canary" not in caplog.text


async def test_sources_and_queries_run_at_the_same_time() -> None:
    sources = [FakeSource(str(number), {"q": [], "r": []}, delay_s=0.2) for number in range(5)]
    start = time.perf_counter()
    await system(*sources).retrieve([Query("q"), Query("r")], 3)
    assert time.perf_counter() - start < 1.0


async def test_low_scores_and_the_same_text_twice_are_dropped() -> None:
    text = "Revenue of Orla Freight rose to $412 million in 2025."
    source = FakeSource("one", {"q": [passage("a", 0.6, text=text), passage("b", 0.5, text=f"So: {text}")]})
    low = FakeSource("two", {"q": [passage("c", 0.29, "two")]})
    found = await system(source, low, min_score=0.3).retrieve([Query("q")], 3)
    assert [p.id for p in found.passages] == ["a"]


async def test_only_the_named_sources_are_asked() -> None:
    one, two = FakeSource("one", {"q": [passage("a", 0.5)]}), FakeSource("two", {})
    both = system(one, two)
    assert both.sources == ("one", "two")
    assert len((await both.retrieve([Query("q")], 3, ["one", "one"])).passages) == 1
    with pytest.raises(InvalidRequest, match="one, two"):
        await both.retrieve([Query("q")], 3, ["one", "three"])


async def test_nothing_to_ask_is_nothing_found() -> None:
    assert (await system().retrieve([Query("q")], 3)).passages == ()
    assert (await system(FakeSource("one", {})).retrieve([], 3)).passages == ()


async def test_a_passage_comes_from_its_source() -> None:
    one = system(FakeSource("one", {}))
    found = await one.passage("one", "x")
    assert found is not None
    assert found.id == "x"
    assert await one.passage("gone", "x") is None


async def test_cancelling_ends_the_searches() -> None:
    task = asyncio.create_task(system(FakeSource("one", {"q": []}, delay_s=30)).retrieve([Query("q")], 3))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_two_sources_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name"):
        system(FakeSource("one", {}), FakeSource("one", {}))
