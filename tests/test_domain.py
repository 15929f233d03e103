from __future__ import annotations

import pytest

from openchatkit.domain import EmbeddingDomainGuard, calibrate
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


async def test_documents_alone_describe_a_domain(encoder: SentenceEncoder) -> None:
    known = encoder.encode(["A cake is baked at 180 degrees."])[0]
    guard = EmbeddingDomainGuard(
        encoder, description=None, threshold=0.4, reply=REPLY, nearest=lambda vector: float(known @ vector)
    )
    assert await guard.in_domain(Query("How is a cake baked?"))
    assert not await guard.in_domain(Query("Write a poem about the sea."))
    assert await guard.in_domain(Query("Thank you so much!"))


def test_neither_description_nor_documents_is_refused(encoder: SentenceEncoder) -> None:
    with pytest.raises(ValueError, match="empty"):
        EmbeddingDomainGuard(encoder, description=None, threshold=0.4, reply=REPLY)


class TestCalibration:
    def test_a_gap_is_split_in_the_middle(self) -> None:
        found = calibrate([0.6, 0.7, 0.9], [0.1, 0.2])
        assert found.best.threshold == pytest.approx(0.4)
        assert (found.best.kept, found.best.refused) == (1.0, 1.0)
        assert found.auroc == 1.0

    def test_of_equally_good_ones_the_widest_gap_wins(self) -> None:
        found = calibrate([0.3, 0.8], [0.25, 0.5])
        assert found.best.threshold == pytest.approx(0.65)
        assert (found.best.kept, found.best.refused) == (0.5, 1.0)

    def test_the_shares_run_from_all_kept_to_all_refused(self) -> None:
        found = calibrate([0.4, 0.6, 0.6], [0.5, 0.1])
        assert (found.trade_offs[0].kept, found.trade_offs[0].refused) == (1.0, 0.0)
        assert (found.trade_offs[-1].kept, found.trade_offs[-1].refused) == (0.0, 1.0)
        assert [each.kept for each in found.trade_offs] == sorted(
            (each.kept for each in found.trade_offs), reverse=True
        )

    def test_equal_lists_cannot_be_told_apart(self) -> None:
        found = calibrate([0.5], [0.5])
        assert found.auroc == 0.5
        assert found.best.kept + found.best.refused == 1.0

    @pytest.mark.parametrize("lists", [([], [0.1]), ([0.1], [])])
    def test_an_empty_list_is_refused(self, lists: tuple[list[float], list[float]]) -> None:
        with pytest.raises(ValueError, match="at least one"):
            calibrate(*lists)


@pytest.mark.parametrize("description", ["", " \n "])
def test_an_empty_description_is_refused(encoder: SentenceEncoder, description: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        EmbeddingDomainGuard(encoder, description=description, threshold=0.2, reply=REPLY)
