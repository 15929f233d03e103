from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from local import defaults
from openchatkit.ports import Passage, Query
from openchatkit.retrieval.difference import FILE, save_difference
from openchatkit.retrieval.encoder import bundled_minilm_directory
from openchatkit.retrieval.reranker import CrossEncoder
from openchatkit.retrieval.system import RetrievalSystem
from openchatkit.settings import SettingsError


def save(folder: Path, *, labels: int = 1) -> str:
    folder.mkdir()
    tokenizer = AutoTokenizer.from_pretrained(str(bundled_minilm_directory()), model_max_length=64)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    config.num_labels = labels
    BertForSequenceClassification(config).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return str(folder)


def passages(count: int) -> list[Passage]:
    texts = ["orla revenue rose.", "kelp grows " * 60, "kelp ?", "revenue"]
    return [
        Passage(str(n), "one", "orla", f"{texts[n % 4]} {'rose ' * n}", 0.9 - n / 100) for n in range(count)
    ]


async def test_scores_do_not_hang_on_the_batch(tmp_path: Path) -> None:
    encoder = CrossEncoder.load(save(tmp_path / "model"))
    together = await encoder.scores("revenue of orla?", passages(20))
    alone = [(await encoder.scores("revenue of orla?", [passage]))[0] for passage in passages(20)]
    assert together == pytest.approx(alone, abs=1e-5)
    assert len(set(together)) > 10
    assert all(0 <= score <= 1 for score in together)
    assert await encoder.scores("x", []) == []


def test_a_classifier_of_several_labels_is_no_cross_encoder(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="3 labels"):
        CrossEncoder.load(save(tmp_path / "model", labels=3))


class ListSource:
    """Returns its passages, and remembers how many were wanted."""

    name = "one"

    def __init__(self) -> None:
        self.wanted = 0

    async def search(self, query: Query, k: int) -> list[Passage]:
        self.wanted = k
        return [Passage(str(n), "one", "t", f"text number {n} of the list", 0.9 - n / 100) for n in range(k)]

    async def passage(self, passage_id: str) -> Passage | None:
        return None


class Backwards:
    """Finds the last passage best."""

    async def scores(self, question: str, passages: Sequence[Passage]) -> list[float]:
        assert question == "the follow-up with its words"
        return [number / 100 for number in range(len(passages))]


class Broken:
    """Fails."""

    async def scores(self, question: str, passages: Sequence[Passage]) -> list[float]:
        raise RuntimeError("canary")


async def test_a_reranker_has_the_last_word_on_the_order() -> None:
    source = ListSource()
    system = RetrievalSystem([source], timeout_s=60, min_score=0.0, reranker=Backwards())
    found = await system.retrieve([Query("x"), Query("the follow-up with its words")], 3)
    assert source.wanted == 20
    assert [passage.id for passage in found.passages] == ["19", "18", "17"]
    assert found.passages[0].score == 0.19


async def test_a_reranker_that_fails_costs_its_order_only(caplog: pytest.LogCaptureFixture) -> None:
    system = RetrievalSystem([ListSource()], timeout_s=60, min_score=0.0, reranker=Broken())
    with caplog.at_level(logging.DEBUG):
        found = await system.retrieve([Query("x")], 2)
    assert [passage.id for passage in found.passages] == ["0", "1"]
    assert found.failures == {"reranker": "failed"}
    assert "canary" not in caplog.text


async def test_a_passage_that_scores_too_little_is_left_out() -> None:
    system = RetrievalSystem(
        [ListSource()], timeout_s=60, min_score=0.0, reranker=Backwards(), reranked=5, reranker_min_score=0.03
    )
    found = await system.retrieve([Query("the follow-up with its words")], 4)
    assert [passage.id for passage in found.passages] == ["4", "3"]
    strict = RetrievalSystem(
        [ListSource()], timeout_s=60, min_score=0.0, reranker=Backwards(), reranker_min_score=0.5
    )
    nothing = await strict.retrieve([Query("the follow-up with its words")], 4)
    assert nothing.passages == () and nothing.failures == {}


SENTENCES = (
    "Group revenue rose by 4% to 312 million euros in 2024.",
    "Maren Holt has led the company since 2019.",
    "The new kiln in Aarhus was lit in March.",
    "For 2025 management reckons with revenue of 330 million euros.",
)


@pytest.mark.parametrize(
    ("question", "place"),
    [
        ("Who is in charge of Brickhaven?", 1),
        ("How much did Brickhaven sell in 2024?", 0),
        ("What does Brickhaven expect to turn over next year?", 3),
        ("What is Brickhaven's credit rating?", None),
        ("How many people work for Brickhaven?", None),
    ],
)
async def test_the_local_reranker_knows_what_answers_and_that_nothing_does(
    question: str, place: int | None
) -> None:
    reranker = CrossEncoder.load(str(defaults.RERANKER))
    texts = [Passage(str(n), "one", "Brickhaven 2024", text, 0.5) for n, text in enumerate(SENTENCES)]
    scores = await reranker.scores(question, texts)
    answering = [number for number, score in enumerate(scores) if score >= 0.3]
    assert answering[:1] == ([] if place is None else [place])
    assert place is None or max(scores) == scores[place]


def test_a_difference_from_another_model_is_refused(tmp_path: Path) -> None:
    weights = {"bert.pooler.dense.bias": torch.ones(384)}
    save_difference(tmp_path / FILE, {"bert.pooler.dense.bias": torch.zeros(384)}, weights)
    with pytest.raises(SettingsError, match="another model"):
        CrossEncoder.load(str(tmp_path))
