"""A cross-encoder as port `Reranker`: question and passage read together by one transformer.

Any directory or hub id of a sequence classifier with one label, as sentence-transformers' cross-encoders
are. Safetensors only, no remote code. It runs the whole model on each passage at each question, so it is
off unless the settings name one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from openchatkit.ports import Passage
from openchatkit.settings import SettingsError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_PASSAGES = 16
DEFAULT_MAX_TOKENS = 512


class CrossEncoder:
    """A sequence classifier whose one label is how well a passage answers. One object serves many threads."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model = model
        self._tokenizer = tokenizer
        positions = getattr(model.config, "max_position_embeddings", DEFAULT_MAX_TOKENS)
        self._max_tokens = min(int(tokenizer.model_max_length), int(positions))
        # A fast tokenizer keeps truncation and padding as state and refuses two borrowers at once.
        self._tokenizing = threading.Lock()

    @classmethod
    def load(cls, model: str, *, revision: str | None = None, device: str = "cpu") -> CrossEncoder:
        """Load a cross-encoder from a directory or by its hub id.

        Raises:
            SettingsError: it has more labels than one.
            OSError: there is no such model, or it has no safetensors.
        """
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
        network = AutoModelForSequenceClassification.from_pretrained(
            model, revision=revision, use_safetensors=True, dtype=torch.float32
        ).to(device)
        network.eval()
        if network.config.num_labels != 1:
            raise SettingsError(
                f"reranker: {model} has {network.config.num_labels} labels; a cross-encoder has one"
            )
        return cls(network, tokenizer)

    async def scores(self, question: str, passages: Sequence[Passage]) -> list[float]:
        """Return for each passage how well it answers the question, in [0, 1]."""
        texts = [f"{passage.title}. {passage.text}" for passage in passages]
        return await asyncio.to_thread(self._scores, question, texts)

    def _scores(self, question: str, texts: Sequence[str]) -> list[float]:
        # Batches of like length waste the least on padding.
        order = sorted(range(len(texts)), key=lambda number: -len(texts[number]))
        found = [0.0] * len(texts)
        for start in range(0, len(order), BATCH_PASSAGES):
            numbers = order[start : start + BATCH_PASSAGES]
            with self._tokenizing:
                batch = self._tokenizer(
                    [question] * len(numbers),
                    [texts[number] for number in numbers],
                    truncation=True,
                    padding=True,
                    max_length=self._max_tokens,
                    return_tensors="pt",
                )
            with torch.inference_mode():
                logits = self._model(**batch.to(self._model.device)).logits[:, 0]
            for number, score in zip(numbers, torch.sigmoid(logits.float()).tolist(), strict=True):
                found[number] = score
        return found
