"""The GPT-NeoX that is trained, and its forward pass over packed rows.

Training runs the library's own modules, but with attention over variable-length dialogues, which
the library's forward has no name for. A test holds both to the same logits.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
from transformers.models.gpt_neox import modeling_gpt_neox

from recipes.demo_model.stream import LONGEST

rotate: Any = modeling_gpt_neox.apply_rotary_pos_emb


def new_model(
    vocabulary: int, layers: int = 10, hidden: int = 320, heads: int = 10, inner: int = 960
) -> GPTNeoXForCausalLM:
    """Return a model with fresh weights: 11.6 million of them as the recipe has it."""
    config = GPTNeoXConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=LONGEST,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
        use_parallel_residual=False,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
    )
    model = GPTNeoXForCausalLM(config)
    scale = (2 * layers) ** -0.5
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("attention.dense.weight", "mlp.dense_4h_to_h.weight")):
                weight.mul_(scale)
    return model


def _attend(q: Tensor, k: Tensor, v: Tensor, starts: Tensor) -> Tensor:
    if q.is_cuda:
        mixed = varlen_attn(q, k, v, starts, starts, LONGEST, LONGEST, window_size=(-1, 0))
        assert isinstance(mixed, Tensor)
        return mixed
    # On a CPU each dialogue by itself: a mask over the row would cost the row's length squared.
    borders = torch.unique_consecutive(starts).tolist()
    return torch.cat([_attend_within(q[a:b], k[a:b], v[a:b]) for a, b in itertools.pairwise(borders)])


def _attend_within(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    heads = functional.scaled_dot_product_attention(
        q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), is_causal=True
    )
    return heads.transpose(0, 1)


def packed_logits(model: GPTNeoXForCausalLM, ids: Tensor, positions: Tensor, starts: Tensor) -> Tensor:
    """Return the logits of a packed row, shape `(tokens, vocabulary)`."""
    inner: Any = model.gpt_neox
    hidden: Tensor = inner.embed_in(ids)
    cos, sin = inner.rotary_emb(hidden.float(), positions[None])
    cos, sin = cos[0], sin[0]
    for layer in inner.layers:
        attention = layer.attention
        packed = attention.query_key_value(layer.input_layernorm(hidden))
        q, k, v = packed.view(hidden.shape[0], -1, 3 * attention.head_size).chunk(3, dim=-1)
        q, k = rotate(q, k, cos.to(q.dtype), sin.to(q.dtype), unsqueeze_dim=1)
        mixed = _attend(q, k, v.contiguous(), starts)
        hidden = hidden + attention.dense(mixed.reshape(hidden.shape))
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    logits: Tensor = functional.linear(inner.final_layer_norm(hidden), inner.embed_in.weight)
    return logits


def packed_loss(
    model: GPTNeoXForCausalLM,
    ids: Tensor,
    targets: Tensor,
    weights: Tensor,
    positions: Tensor,
    starts: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the weighted loss of a row and the plain loss on the replies alone."""
    logits = packed_logits(model, ids, positions, starts).float()
    each = functional.cross_entropy(logits, targets, reduction="none")
    reply = (weights >= 1.0).float()
    return (each * weights).sum() / weights.sum(), (each.detach() * reply).sum() / reply.sum()


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal, for weight matrices (Jordan et al., 2024).

    Matrices of one shape are stacked and orthogonalised together: the model has many small ones.
    """

    def __init__(
        self, matrices: list[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.01
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = {}
            for weight in group["params"]:
                shapes.setdefault(weight.shape, []).append(weight)
            for shape, stack in shapes.items():
                gradient = torch.stack([weight.grad for weight in stack if weight.grad is not None])
                state = self.state[stack[0]]
                if "mean" not in state:
                    state["mean"] = torch.zeros_like(gradient)
                mean = state["mean"].lerp_(gradient, 1 - group["momentum"])
                update = orthogonal(gradient.lerp(mean, group["momentum"]))
                rate = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                for weight, change in zip(stack, update, strict=True):
                    weight.mul_(1 - group["lr"] * group["decay"]).add_(change.to(weight.dtype), alpha=-rate)


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Return the nearest half-orthogonal matrices, roughly, by a Newton-Schulz iteration in bf16."""
    x: Tensor = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x
