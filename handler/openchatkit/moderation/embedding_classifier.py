"""The local judge: logistic regression over sentence embeddings and character n-grams.

A text is read as written and, where that differs, with its disguises undone (`disguise.py`). Each
reading is judged in pieces of about two sentences and in spans of at most one, for a short request
inside a long harmless text; the worst of all is the verdict. A reply is judged by itself and behind
the human's words.

What a piece is to the classifier: the sentence embedding of its English gloss (`glossary.py`),
and its hashed character 3- to 5-grams. The first generalises over meaning, the second over
words that the encoder does not know; on topics left out of training the two together rank better
than either (`recipes/moderation_classifier/report.json`). Of languages with few examples the n-grams
are those of the gloss too, so that what was learnt of English words counts for them.

The coefficients are trained by `recipes/moderation_classifier/train.py` on `examples.jsonl` and lie
beside this module as safetensors, bound to the examples by their SHA-256.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from openchatkit.errors import ModerationUnavailable
from openchatkit.moderation.disguise import clean, readings
from openchatkit.moderation.glossary import glosses
from openchatkit.moderation.labels import LABELS, CategorisedVerdict, harm, verdict_from_scores
from openchatkit.moderation.segments import segments, sentences
from openchatkit.ports import Encoder, Verdict

EXAMPLES = Path(__file__).with_name("examples.jsonl")
COEFFICIENTS = Path(__file__).with_name("classifier.safetensors")

NGRAM_BUCKETS = 4096
PIECE_CHARACTERS = 240
PIECE_OVERLAP = 80
SPAN_CHARACTERS = 120
SPAN_OVERLAP = 50
CONTEXT_CHARACTERS = 200
"""Of the human's text, before each piece of a reply."""
MAX_PIECES = 1_500
"""More than the longest text of `wire.py` gives; beyond it the text is refused, not judged in part."""
CACHED_PIECES = 4096
LEAST_CATEGORY = 0.4
"""Probability from which the kind of harm is told."""
LEAST_HARM_OF_CATEGORY = 0.25
"""Harm from which it is told: below it there is nothing that a policy for a kind could be about."""

Features = NDArray[np.float32]
_TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Coefficients:
    """A trained classifier: linear maps from features to labels, and to kinds of harm."""

    labels: Features
    """`(features + 1, 5)`, the last row the intercept."""
    categories: Features
    """`(dimension + 1, kinds)`, over the embedding alone."""
    category_names: tuple[str, ...]
    examples_sha256: str

    @classmethod
    def load(cls, path: Path = COEFFICIENTS) -> Coefficients:
        """Read what the recipe wrote; raises OSError or ValueError on a missing or foreign file."""
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("labels") != json.dumps(LABELS):
                raise ValueError(f"{path.name} was not trained on these labels")
            return cls(
                file.get_tensor("labels"),
                file.get_tensor("categories"),
                tuple(json.loads(metadata["categories"])),
                metadata["examples_sha256"],
            )


def in_context(human: str, bot: str) -> str:
    """Return a reply behind the end of what it answers, as the classifier is trained on it."""
    human = clean(human)
    if len(human) > CONTEXT_CHARACTERS:
        human = human[-CONTEXT_CHARACTERS:].partition(" ")[2]
    return f"{human}\n{bot}"


def features(encoder: Encoder, texts: Sequence[str]) -> Features:
    """Return what the classifier sees of each text, shape `(n, dimension + NGRAM_BUCKETS)`."""
    lines = [[glosses(line) for line in text.split("\n")] for text in texts]
    embeddings = encoder.encode(["\n".join(glossed for glossed, _ in each) for each in lines])
    ngrams = [_ngrams("\n".join(spelled for _, spelled in each)) for each in lines]
    return np.hstack([embeddings, np.stack(ngrams)])


def _ngrams(text: str) -> Features:
    counts = np.zeros(NGRAM_BUCKETS, dtype=np.float32)
    for token in _TOKEN.findall(text.lower()):
        padded = f" {token} "
        for size in (3, 4, 5):
            for start in range(max(1, len(padded) - size + 1)):
                # crc32, as Python's own hash differs from process to process. Its top bit signs the
                # count, so that collisions cancel out instead of adding up.
                hashed = zlib.crc32(padded[start : start + size].encode())
                counts[hashed % NGRAM_BUCKETS] += 1 if hashed >> 31 else -1
    norm = float(np.linalg.norm(counts))
    return counts / norm if norm else counts


class EmbeddingClassifier:
    """A `Moderator` on any sentence encoder that its coefficients were trained with.

    It works in one thread of its own: the caller's event loop stays free, and judgements that nobody
    waits for any more are dropped before they begin.
    """

    def __init__(self, encoder: Encoder, coefficients: Coefficients) -> None:
        self._encoder = encoder
        self._coefficients = coefficients
        if len(self._coefficients.labels) != encoder.dimension + NGRAM_BUCKETS + 1:
            raise ValueError("the coefficients belong to an encoder of another dimension")
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="moderation")
        # A streamed reply is judged again and again with a little more at its end. Keyed by digest:
        # no text is kept.
        self._known: OrderedDict[bytes, tuple[Features, Features]] = OrderedDict()

    @classmethod
    def load(cls, encoder: Encoder, path: Path = COEFFICIENTS) -> EmbeddingClassifier:
        """Return the classifier of a coefficients' file; raises OSError or ValueError as that does."""
        return cls(encoder, Coefficients.load(path))

    async def judge(self, human: str, bot: str | None = None) -> Verdict:
        """Return the verdict on the worst piece of the human's text, or of the bot's in its context.

        Raises:
            ModerationUnavailable: the encoder failed, or the text is too long to be judged whole.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, self.judge_now, human, bot)

    def judge_now(self, human: str, bot: str | None = None) -> CategorisedVerdict:
        """Judge as `judge` does, in the caller's thread. Not for two threads at once."""
        pieces = _pieces(human, bot)
        if len(pieces) > MAX_PIECES:
            raise ModerationUnavailable("the text is too long to be judged")
        try:
            judged = self._probabilities(pieces)
        except Exception:  # noqa: BLE001 (an encoder may fail in any way, and quote the text)
            raise ModerationUnavailable("the sentence encoder failed") from None
        return max((self._verdict(*each) for each in judged), key=lambda verdict: verdict.harm)

    def close(self) -> None:
        """End the thread; judgements that have not begun are dropped."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _probabilities(self, pieces: list[str]) -> list[tuple[Features, Features]]:
        keys = [_digest(piece) for piece in pieces]
        found = {key: self._known[key] for key in keys if key in self._known}
        new = {key: piece for key, piece in zip(keys, pieces, strict=True) if key not in found}
        if new:
            seen = features(self._encoder, list(new.values()))
            labels = _probabilities_of(seen, self._coefficients.labels)
            kinds = _probabilities_of(seen[:, : self._encoder.dimension], self._coefficients.categories)
            found |= dict(zip(new, zip(labels, kinds, strict=True), strict=True))
        for key in keys:
            self._known[key] = found[key]
            self._known.move_to_end(key)
        while len(self._known) > CACHED_PIECES:
            self._known.popitem(last=False)
        return [found[key] for key in keys]

    def _verdict(self, labels: Features, kinds: Features) -> CategorisedVerdict:
        scores = {label: float(value) for label, value in zip(LABELS, labels, strict=True)}
        likeliest = int(kinds.argmax())
        known = harm(scores) >= LEAST_HARM_OF_CATEGORY and kinds[likeliest] >= LEAST_CATEGORY
        return verdict_from_scores(scores, self._coefficients.category_names[likeliest] if known else None)


def _pieces(human: str, bot: str | None) -> list[str]:
    """Return everything of a text that is judged, each once."""
    found: list[str] = []
    for reading in readings(human if bot is None else bot):
        pieces = segments(reading, PIECE_CHARACTERS, PIECE_OVERLAP)
        found += pieces
        for sentence in sentences(reading):
            found += segments(sentence, SPAN_CHARACTERS, SPAN_OVERLAP)
        if bot is not None:
            found += [in_context(human, piece) for piece in pieces]
    return list(dict.fromkeys(found)) or [""]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


def _probabilities_of(seen: Features, coefficients: Features) -> Features:
    logits: NDArray[np.float32] = seen @ coefficients[:-1] + coefficients[-1]
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), dtype=np.float32)
