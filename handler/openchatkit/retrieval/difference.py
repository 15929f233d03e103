"""A fine-tuned model as its difference from the model that it was trained from.

Matrices are kept in eight bits with a step for every row, all else in single precision; weights that did
not change are left out. What training changes is small beside the weights themselves, so eight bits of
it cost nothing that was ever measured, at a quarter of a half-precision model without its embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FILE = "difference.safetensors"
BASE = "base"
"""Key of the file's metadata: what the base must be (`fingerprint`)."""
_STEP = ".step"
_LARGEST = 127


def named_for(network: PreTrainedModel, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a plain model's weights under the names that they have inside a model with a head."""
    inside = network.state_dict()
    named = {f"{network.base_model_prefix}.{name}": weight for name, weight in base.items()}
    return {name: weight for name, weight in named.items() if name in inside}


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """Return a text that differs between models: the sums of their matrices."""
    total = sum(float(one.double().abs().sum()) for one in weights.values() if one.is_floating_point())
    return f"{len(weights)}:{total:.0f}"


def save_difference(path: Path, base: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> None:
    """Write what makes `tuned` out of `base`; weights that `base` lacks are taken as zero there."""
    kept: dict[str, Tensor] = {}
    for name, weight in tuned.items():
        before = base.get(name)
        change = weight.detach().float().cpu() - (0 if before is None else before.float().cpu())
        if not change.any():
            continue
        if before is None or change.dim() != 2:
            kept[name] = change.contiguous()
            continue
        step = change.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / _LARGEST
        kept[name] = (change / step[:, None]).round().to(torch.int8)
        kept[name + _STEP] = step
    save_file(kept, path, metadata={BASE: fingerprint(base)})


def with_difference(path: Path, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that `save_difference` was given, `base`'s where they did not change.

    Raises:
        ValueError: the difference is one from another base.
    """
    weights = {name: weight.float() for name, weight in base.items()}
    with safe_open(path, framework="pt") as file:
        wanted = (file.metadata() or {}).get(BASE)
        if wanted != fingerprint(base):
            raise ValueError(f"{path.name} is the difference from another model than the one given")
        for name in file.keys():  # noqa: SIM118 - not a mapping
            if name.endswith(_STEP):
                continue
            change: Tensor = file.get_tensor(name)
            if change.dtype == torch.int8:
                change = change.float() * file.get_tensor(name + _STEP)[:, None]
            weights[name] = weights[name] + change if name in weights else change
    return weights
