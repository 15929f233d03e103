from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from openchatkit.retrieval.encoder import SentenceEncoder, bundled_minilm_directory, mean_pooling

TEXTS = [
    "Revenue rose 5.9% to €1,284 million in 2025.",
    "",
    "short",
    "日本語と émojis 🎈",
    "The board proposes a dividend of €1.45 per share, up from €1.30. " * 40,
]


def test_mean_pooling_is_the_mean_of_what_the_mask_shows() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(3, 5, 4)).astype(np.float32)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    expected = [hidden[row][mask[row] == 1].mean(axis=0) for row in range(3)]
    pooled = mean_pooling(torch.from_numpy(hidden), torch.from_numpy(mask)).numpy()
    np.testing.assert_allclose(pooled, np.stack(expected), rtol=1e-5, atol=1e-6)


def test_mean_pooling_of_padding_only_is_zero() -> None:
    pooled = mean_pooling(torch.full((1, 3, 2), torch.nan), torch.zeros(1, 3, dtype=torch.long))
    assert pooled.tolist() == [[0.0, 0.0]]


@pytest.mark.filterwarnings("ignore")  # of the libraries that it imports, not ours
def test_vectors_are_those_of_sentence_transformers(encoder: SentenceEncoder) -> None:
    library = pytest.importorskip("sentence_transformers")
    reference = library.SentenceTransformer(str(bundled_minilm_directory()), device="cpu")
    expected = reference.encode(TEXTS, normalize_embeddings=True)
    cosines = (encoder.encode(TEXTS) * expected).sum(axis=1)
    assert cosines.min() > 0.9999


def test_vectors_are_unit_and_in_order_whatever_the_batch(encoder: SentenceEncoder) -> None:
    texts = [f"{word} " * (number % 7 + 1) for number, word in enumerate(["profit", "loss", "debt"] * 30)]
    together = encoder.encode(texts)
    assert together.shape == (90, encoder.dimension)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    for number in (0, 17, 89):
        assert together[number] @ encoder.encode([texts[number]])[0] > 0.9999


def test_nothing_gives_no_rows(encoder: SentenceEncoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.dimension)


def test_text_beyond_the_limit_is_cut_off(encoder: SentenceEncoder) -> None:
    head = "debt " * (encoder.max_tokens + 10)
    first, second = encoder.encode([head, head + "a quite different matter " * 200_000])
    assert first @ second > 0.9999


def test_a_lone_surrogate_is_no_error(encoder: SentenceEncoder) -> None:
    assert np.isfinite(encoder.encode(["broken \ud800 text"])).all()


def test_many_threads_share_one_encoder(encoder: SentenceEncoder) -> None:
    expected = encoder.encode(TEXTS)
    failures: list[float] = []

    def work(number: int) -> None:
        for _ in range(5):
            vector = encoder.encode([TEXTS[number % len(TEXTS)]])[0]
            if vector @ expected[number % len(TEXTS)] < 0.9999:
                failures.append(float(vector @ expected[number % len(TEXTS)]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_identity_is_stable_and_tells_encoders_apart(encoder: SentenceEncoder) -> None:
    other = SentenceEncoder.load(bundled_minilm_directory())
    assert other.identity == encoder.identity
    shorter = SentenceEncoder(other._model, other._tokenizer, max_tokens=64)
    assert shorter.identity != encoder.identity
