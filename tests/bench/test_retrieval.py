from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench import retrieval_wikipedia
from bench.retrieval_scale import DIMENSION, TopicEncoder, made_up


def test_made_up_texts_fall_into_topics_whatever_their_titles() -> None:
    encoder = TopicEncoder()
    said = [f"W{'w' * 3} w{number}00000 w7" for number in range(40)]
    vectors = encoder.encode([f"Document {number}. {text}" for number, text in enumerate(said)])
    again = encoder.encode([f"Document {1000 + number}. {text}" for number, text in enumerate(said)])
    assert vectors.shape == (40, DIMENSION)
    alike = vectors @ again.T
    own, others = np.diag(alike), alike[~np.eye(40, dtype=bool)]
    assert own.min() > np.quantile(others, 0.95)


def test_made_up_documents_have_the_rows_asked_for() -> None:
    assert len([*made_up(100)]) == 25


def test_the_wikipedia_bench_measures_our_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = [
        (f"Service {number}", [f"The operation {number} returns item {one} of the list." for one in range(4)])
        for number in range(12)
    ]
    monkeypatch.setattr(retrieval_wikipedia, "articles", lambda: iter(corpus))
    monkeypatch.setattr(retrieval_wikipedia, "QUESTIONS", 10)
    retrieval_wikipedia.prepare(40, tmp_path)
    retrieval_wikipedia.prepare(40, tmp_path)  # what is there is kept
    figures = retrieval_wikipedia.ours(tmp_path)
    assert len(figures["rows"]) == len(figures["texts"]) == 10
    assert 0 < figures["encoding_ms_p50"] < figures["ms_p95"] * 10
    assert all(text.startswith("The operation") for text in figures["texts"])
