"""Floors for retrieval over the sample library: the figures of `bench.retrieval_local`, less a margin."""

from __future__ import annotations

import pytest

from bench.retrieval_local import MIN_SCORE, Question, load_questions, ranks, recall
from openchatkit.retrieval.document_source import DocumentSource
from openchatkit.retrieval.encoder import SentenceEncoder
from openchatkit.retrieval.system import RetrievalSystem


@pytest.fixture(scope="module")
def system(source: DocumentSource) -> RetrievalSystem:
    return RetrievalSystem([source], timeout_s=30, min_score=MIN_SCORE)


def of_kind(kind: str) -> list[Question]:
    return [question for question in load_questions() if question["kind"] == kind]


async def test_facts_are_found(system: RetrievalSystem, encoder: SentenceEncoder) -> None:
    found, _ = await ranks(system, encoder, of_kind("fact"))
    assert recall(found, 3) >= 0.95
    assert recall(found, 1) >= 0.80


async def test_facts_are_found_after_other_questions(
    system: RetrievalSystem, encoder: SentenceEncoder
) -> None:
    facts = of_kind("fact")
    shifted = [*facts[37:], *facts[:37]]
    later = [
        question | {"history": [{"question": before["question"]}]}
        for question, before in zip(facts, shifted, strict=True)
    ]
    found, _ = await ranks(system, encoder, later)
    assert recall(found, 3) >= 0.95


async def test_follow_ups_are_found(system: RetrievalSystem, encoder: SentenceEncoder) -> None:
    found, _ = await ranks(system, encoder, of_kind("follow_up"))
    assert recall(found, 3) >= 0.85


async def test_small_talk_finds_hardly_anything(system: RetrievalSystem, encoder: SentenceEncoder) -> None:
    asked: list[Question] = [{"documents": []} | question for question in of_kind("smalltalk")]
    _, seen = await ranks(system, encoder, asked)
    assert len(seen) <= len(asked)
