"""An encoder without a model: each word has a vector of its own. Fast, deterministic, and no torch."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence

import numpy as np

from openchatkit.ports import Embedding

DIMENSION = 48


class HashingEncoder:
    """A sentence's vector is the sum of its words'."""

    identity = "hashing"
    dimension = DIMENSION

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> Embedding:
        self.asked += texts
        vectors = np.zeros((len(texts), DIMENSION), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                row += np.random.default_rng(zlib.crc32(word.encode())).standard_normal(DIMENSION, np.float32)
            row /= np.linalg.norm(row) + 1e-9
        return vectors


def articles(count: int) -> str:
    """Return JSON lines of articles that differ."""
    return "".join(
        json.dumps(
            {
                "title": f"Company {number} report",
                "text": f"Company {number} earned {number * 7} million in {2000 + number % 26}. "
                f"It employs {number * 13} people in town {number % 97}.",
                "company": f"Company {number}",
                "kind": "report" if number % 3 else "news",
                "date": f"20{number % 26:02}-03-0{1 + number % 9}",
            }
        )
        + "\n"
        for number in range(count)
    )
