"""From logits to tokens, for all requests of a step at once.

The cuts are transformers' own logits processors, called once for each group of requests that ask
for the same ones. The draw is by inverse transform with one random number a token from the
request's own generator, so a seed gives the same reply whoever else is in the batch (up to the
last bits of the logits, which depend on the batch's shape) and costs no kernel for each request.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from openchatkit.ports import SamplingParameters

GREEDY_BELOW = 1e-5
"""Temperatures below it are greedy: the division would leave the range of float32."""

NO_TOKEN = -1
"""In place of a token where the logits are not numbers."""

_RANDOM_BITS = 24


class Sampler:
    """What one request's next token depends on besides the logits."""

    def __init__(self, parameters: SamplingParameters, prompt: Sequence[int]) -> None:
        self.tokens = list(prompt)
        """The prompt and the reply, which the repetition penalty is about."""
        self.penalty: LogitsProcessor | None = None
        if parameters.repetition_penalty != 1.0:
            self.penalty = RepetitionPenaltyLogitsProcessor(parameters.repetition_penalty)
        self.greedy = parameters.temperature < GREEDY_BELOW
        self.cuts = (parameters.temperature, parameters.top_k, parameters.top_p)
        self._random = random.Random(parameters.seed)  # noqa: S311 - not for secrets

    def draw(self) -> float:
        """Return a number in [0, 1); few bits, so that its product with a float64 sum stays below it."""
        return self._random.getrandbits(_RANDOM_BITS) / (1 << _RANDOM_BITS)


def choose_tokens(logits: torch.Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """Return the next token of each request, `NO_TOKEN` where its logits hold a NaN.

    Args:
        logits: shape `(len(samplers), vocabulary)`, any float type.
    """
    # Apple's GPUs have no float64, which the sums need.
    logits = logits.cpu().float() if logits.device.type == "mps" else logits.float()
    logits = _penalised(logits, samplers)
    groups: dict[tuple[float, int, float] | None, list[int]] = {}
    for row, sampler in enumerate(samplers):
        groups.setdefault(None if sampler.greedy else sampler.cuts, []).append(row)
    tokens = [NO_TOKEN] * len(samplers)
    for cuts, rows in groups.items():
        part = logits if len(rows) == len(samplers) else logits[rows]
        chosen = _greedy(part) if cuts is None else _draw(part, cuts, [samplers[row] for row in rows])
        for row, token in zip(rows, chosen.tolist(), strict=True):
            tokens[row] = token
    return tokens


def _penalised(logits: torch.Tensor, samplers: Sequence[Sampler]) -> torch.Tensor:
    penalised = [row for row, sampler in enumerate(samplers) if sampler.penalty is not None]
    if penalised:
        logits = logits.clone()
    for row in penalised:
        sampler = samplers[row]
        assert sampler.penalty is not None
        seen = torch.tensor([sampler.tokens], device=logits.device)
        logits[row] = sampler.penalty(seen, logits[row : row + 1])[0]
    return logits


def _greedy(logits: torch.Tensor) -> torch.Tensor:
    best = logits.max(dim=-1)
    return best.indices.masked_fill(best.values.isnan(), NO_TOKEN)


def _draw(logits: torch.Tensor, cuts: tuple[float, int, float], samplers: Sequence[Sampler]) -> torch.Tensor:
    temperature, top_k, top_p = cuts
    processors = LogitsProcessorList()
    if temperature != 1.0:
        processors.append(TemperatureLogitsWarper(temperature))
    if top_k:
        processors.append(TopKLogitsWarper(top_k))
    if top_p < 1.0:
        processors.append(TopPLogitsWarper(top_p))
    # The processors of this list look at the logits only.
    scores = processors(torch.LongTensor(), logits)
    sums = torch.softmax(scores, dim=-1).cumsum(dim=-1, dtype=torch.float64)
    drawn = torch.tensor([[sampler.draw()] for sampler in samplers], dtype=torch.float64)
    total = sums[:, -1:]
    tokens = torch.searchsorted(sums, drawn.to(sums.device) * total, right=True)
    return tokens.masked_fill(total.isnan(), NO_TOKEN).squeeze(-1)
