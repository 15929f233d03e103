"""The real encoder and the committed coefficients, loaded once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from openchatkit.moderation.embedding_classifier import EmbeddingClassifier
from openchatkit.retrieval.encoder import SentenceEncoder, bundled_minilm_directory


@pytest.fixture(scope="session")
def encoder() -> Iterator[SentenceEncoder]:
    """MiniLM, as the package carries it, in one thread: batches here are far too small for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield SentenceEncoder.load(bundled_minilm_directory())
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def classifier(encoder: SentenceEncoder) -> EmbeddingClassifier:
    """The local judge as it ships."""
    return EmbeddingClassifier.load(encoder)
