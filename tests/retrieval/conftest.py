from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from openchatkit.retrieval.document_source import DocumentSource
from openchatkit.retrieval.encoder import SentenceEncoder, bundled_minilm_directory

LIBRARY = Path(__file__).resolve().parents[2] / "local" / "library"


@pytest.fixture(scope="session")
def encoder() -> SentenceEncoder:
    # As the engine sets it. With other work on the cores, one thread a core takes ten times as long.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))
    return SentenceEncoder.load(bundled_minilm_directory())


@pytest.fixture(scope="session")
def source(encoder: SentenceEncoder) -> DocumentSource:
    """The sample library, indexed once."""
    if not LIBRARY.is_dir():
        pytest.skip("the sample library is not here")
    return DocumentSource.build([LIBRARY], encoder=encoder)
