"""Facts of the models that this app was made for: what their weights and their memory take.

Read from the models' published configurations; figures of a model do not change with its revisions.
A model that is not in the table can be deployed as well; then nobody checks that it fits its GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["chat", "moderation"]
"""Which of the two models: the one that answers, or the one that judges."""


@dataclass(frozen=True)
class ModelFacts:
    """The shape of a causal language model, as far as a deployment depends on it."""

    parameters: int
    layers: int
    hidden_size: int
    heads: int
    """Attention heads; each GPU of a tensor parallel group takes an equal share of them."""
    context: int
    """Tokens that it was trained for."""

    def weight_bytes(self, bytes_per_parameter: float) -> float:
        """Return the size of the weights over all GPUs, bytes."""
        return self.parameters * bytes_per_parameter

    def cache_bytes_per_token(self, bytes_per_value: int) -> int:
        """Return what one token's keys and values take over all GPUs, bytes (multi-head attention)."""
        return 2 * bytes_per_value * self.layers * self.hidden_size


_GPT_NEOX_20B = ModelFacts(20_556_201_984, layers=44, hidden_size=6144, heads=64, context=2048)
_GPT_J_6B = ModelFacts(6_050_882_784, layers=28, hidden_size=4096, heads=16, context=2048)
_GPT_NEOX_7B = ModelFacts(6_857_302_016, layers=32, hidden_size=4096, heads=32, context=2048)
_GPT_NEOX_3B = ModelFacts(2_775_864_320, layers=32, hidden_size=2560, heads=32, context=2048)

MODELS: dict[str, ModelFacts] = {
    "togethercomputer/GPT-NeoXT-Chat-Base-20B": _GPT_NEOX_20B,
    "togethercomputer/Pythia-Chat-Base-7B": _GPT_NEOX_7B,
    "togethercomputer/RedPajama-INCITE-7B-Chat": _GPT_NEOX_7B,
    "togethercomputer/RedPajama-INCITE-Chat-3B-v1": _GPT_NEOX_3B,
    "togethercomputer/GPT-JT-6B-v1": _GPT_J_6B,
    "togethercomputer/GPT-JT-Moderation-6B": _GPT_J_6B,
}
"""By hub id."""
