"""Linear layers whose weights lie as oneDNN wants them, for a CPU and inference alone.

PyTorch multiplies a question's dozen tokens by weights in rows; oneDNN, which is part of PyTorch, takes
less than half of the time with weights in its own blocked layout, and gives the same to seven digits.
TorchInductor packs weights this way when it compiles; that needs a compiler where the model runs, so
the operator is called here as Inductor's code calls it (`torch._inductor.fx_passes.mkldnn_fusion`).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """A `torch.nn.Linear` that has been packed. It has no parameters and cannot be trained."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        # No batch size is given: questions have all lengths.
        self._packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def _save_to_state_dict(self, destination: dict[str, Tensor], prefix: str, keep_vars: bool) -> None:
        """Give what a plain layer gives, so that a packed model's weights are those that were loaded."""
        destination[f"{prefix}weight"] = self._packed.to_dense()
        if self._bias is not None:
            destination[f"{prefix}bias"] = self._bias

    def forward(self, inputs: Tensor) -> Tensor:
        """Return `(..., out_features)` of `(..., in_features)`."""
        return cast(
            "Tensor",
            torch.ops.mkldnn._linear_pointwise(inputs, self._packed, self._bias, "none", [], ""),
        )


def can_pack() -> bool:
    """Tell whether this build of PyTorch packs and multiplies, by doing it once."""
    plain = nn.Linear(4, 3)
    inputs = torch.ones(2, 4)
    try:
        with torch.inference_mode():
            return torch.allclose(PackedLinear(plain)(inputs), plain(inputs), atol=1e-5)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False  # another PyTorch: its own way is as right, and slower


def pack_linears(model: nn.Module) -> int:
    """Replace the model's linear layers in single precision on the CPU; return how many there were."""
    if not can_pack():
        return 0
    packed = 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if (
                type(child) is nn.Linear
                and child.weight.device.type == "cpu"
                and child.weight.dtype == torch.float32
            ):
                setattr(module, name, PackedLinear(child))
                packed += 1
    return packed
