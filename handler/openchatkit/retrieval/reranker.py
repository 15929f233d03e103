"""A cross-encoder as port `Reranker`: question and passage read together by one transformer.

Any directory or hub id of a sequence classifier with one label, as sentence-transformers' cross-encoders
are. Safetensors only, no remote code. It runs the whole model on each passage at each question, so it is
off unless the settings name one.

A directory may also hold the difference (`difference.py`) from the bundled MiniLM in place of a whole
model, as the local default does (`recipes/reranker`): a tenth of the bytes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from openchatkit.ports import Passage
from openchatkit.retrieval import difference
from openchatkit.retrieval.encoder import bundled_minilm_directory
from openchatkit.retrieval.packed_linear import pack_linears
from openchatkit.settings import SettingsError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_PASSAGES = 16
WEIGHTS = "model.safetensors"
DEFAULT_MAX_TOKENS = 512


def untrained() -> tuple[PreTrainedModel, dict[str, torch.Tensor]]:
    """Return a cross-encoder of the bundled MiniLM's shape, and MiniLM's weights by its names."""
    directory = bundled_minilm_directory()
    classifier: Any = AutoModelForSequenceClassification
    config = AutoConfig.from_pretrained(str(directory), num_labels=1)
    network: PreTrainedModel = classifier.from_config(config, dtype=torch.float32)
    return network, difference.named_for(network, load_file(directory / WEIGHTS))


class CrossEncoder:
    """A sequence classifier whose one label is how well a passage answers. One object serves many threads."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        pack_linears(model)
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
        if (Path(model) / difference.FILE).is_file():
            return cls._load_difference(Path(model), device)
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

    @classmethod
    def _load_difference(cls, directory: Path, device: str) -> CrossEncoder:
        """Load the bundled MiniLM as the directory's difference changes it."""
        network, base = untrained()
        try:
            weights = difference.with_difference(directory / difference.FILE, base)
        except ValueError as error:
            raise SettingsError(f"reranker: {error}") from None
        network.load_state_dict(weights)
        moved: Any = network
        tokenizer = AutoTokenizer.from_pretrained(str(bundled_minilm_directory()))
        return cls(moved.to(device).eval(), tokenizer)

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
