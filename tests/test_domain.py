from __future__ import annotations

import pytest

from openchatkit.domain import EmbeddingDomainGuard
from openchatkit.ports import Embedding, Query
from openchatkit.retrieval.encoder import SentenceEncoder, bundled_minilm_directory

DESCRIPTION = """What was the revenue of a company in its last fiscal year?
How high are its net debt and its dividend? Who is the chief executive?"""
REPLY = "I talk about companies only."


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder.load(bundled_minilm_directory())


@pytest.fixture(scope="module")
def guard(encoder: SentenceEncoder) -> EmbeddingDomainGuard:
    return EmbeddingDomainGuard(encoder, description=DESCRIPTION, threshold=0.25, reply=REPLY)


@pytest.mark.parametrize(
    "text", ["What was the net profit of Acme in 2025?", "How much debt does Acme have?"]
)
async def test_questions_like_the_description_are_in(guard: EmbeddingDomainGuard, text: str) -> None:
    assert await guard.in_domain(Query(text))


@pytest.mark.parametrize(
    "text", ["How do I bake a cake?", "Write a poem about the sea.", "Who won the match?"]
)
async def test_other_questions_are_out(guard: EmbeddingDomainGuard, text: str) -> None:
    assert not await guard.in_domain(Query(text))
    assert guard.reply == REPLY


@pytest.mark.parametrize("text", ["Hello!", "Thank you so much!", "Who are you?", "Goodbye"])
async def test_courtesy_is_always_in(guard: EmbeddingDomainGuard, text: str) -> None:
    assert await guard.in_domain(Query(text))


async def test_what_the_documents_know_is_in(encoder: SentenceEncoder) -> None:
    known = encoder.encode(["A cake is baked at 180 degrees."])[0]

    def nearest(embedding: Embedding) -> float:
        return float(known @ embedding)

    guard = EmbeddingDomainGuard(
        encoder, description=DESCRIPTION, threshold=0.4, reply=REPLY, nearest=nearest
    )
    assert await guard.in_domain(Query("How is a cake baked?"))
    assert not await guard.in_domain(Query("Write a poem about the sea."))


async def test_the_embedding_of_the_query_is_used(
    guard: EmbeddingDomainGuard, encoder: SentenceEncoder
) -> None:
    vector = encoder.encode(["What was the revenue of Acme?"])[0]
    assert await guard.in_domain(Query("How do I bake a cake?", vector))


@pytest.mark.parametrize("description", ["", " \n "])
def test_an_empty_description_is_refused(encoder: SentenceEncoder, description: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        EmbeddingDomainGuard(encoder, description=description, threshold=0.2, reply=REPLY)
