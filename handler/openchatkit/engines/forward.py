"""A causal language model of transformers as one function: tokens and a cache in, logits out."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import Cache, PreTrainedModel


class CausalModel:
    """Any model of `AutoModelForCausalLM` with a key-value cache of plain attention layers.

    Not thread-safe: whoever calls it owns it.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        model.train(False)
        accepted = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in accepted
        self._takes_logits_to_keep = "logits_to_keep" in accepted

    @property
    def device(self) -> torch.device:
        """Where tokens go in."""
        device: torch.device = self._model.get_input_embeddings().weight.device  # type: ignore[assignment]
        # Accelerate keeps weights that it offloads on `meta`; its hooks take tokens from anywhere.
        return torch.device("cpu") if device.type == "meta" else device

    def __call__(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        cache: Cache,
        *,
        mask: torch.Tensor | None = None,
        last_only: bool = True,
    ) -> torch.Tensor:
        """Return the logits that follow `tokens`, whose keys and values are added to `cache`.

        Args:
            tokens: shape `(batch, length)`.
            positions: shape `(batch, length)`, each token's place in its own text.
            mask: shape `(batch, cached + length)`, True where there is a token; None: everywhere.
            last_only: only the logits of each row's last token.

        Returns:
            Shape `(batch, vocabulary)`, or `(batch, length, vocabulary)` without `last_only`.
        """
        arguments: dict[str, Any] = {}
        if self._takes_positions:
            arguments["position_ids"] = positions
        if last_only and self._takes_logits_to_keep:
            arguments["logits_to_keep"] = 1
        output = self._model(
            input_ids=tokens, attention_mask=mask, past_key_values=cache, use_cache=True, **arguments
        )
        logits: torch.Tensor = output.logits
        return logits[:, -1] if last_only else logits
