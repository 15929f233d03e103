"""Likelihoods of given continuations: one pass over all of them on top of the prompt's cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from openchatkit.engines.forward import CausalModel
from openchatkit.engines.requests import Prefill


def score_choices(
    model: CausalModel,
    prefill: Prefill,
    logits: torch.Tensor,
    choices: Sequence[Sequence[int]],
) -> list[float]:
    """Return the probability of each choice among the choices; they sum to one.

    The log-likelihood of a choice is divided by its number of tokens, so that a long label is not
    less likely for its length alone (Brown et al. 2020, section 2.4).

    Args:
        prefill: the prompt, done. Its cache is used up.
        logits: what follows the prompt, shape `(1, vocabulary)`.
        choices: tokens of each, at least one.

    Raises:
        ValueError: the logits hold a NaN.
    """
    first = torch.log_softmax(logits[0].float(), dim=-1)
    totals = first[torch.tensor([choice[0] for choice in choices], device=first.device)]
    if longest := max(len(choice) for choice in choices) - 1:
        totals = totals + _rest(model, prefill, choices, longest).to(totals.device)
    lengths = torch.tensor([len(choice) for choice in choices], device=totals.device)
    probabilities = torch.softmax((totals / lengths).double(), dim=-1)
    if probabilities.isnan().any():
        raise ValueError("the model's logits are not numbers")
    result: list[float] = probabilities.tolist()
    return result


def _rest(
    model: CausalModel,
    prefill: Prefill,
    choices: Sequence[Sequence[int]],
    longest: int,
) -> torch.Tensor:
    """Return the log-likelihood of each choice from its second token on, shape `(choices,)`."""
    # Padding stands to the right, where causal attention hides it from the choice's own tokens.
    inputs = torch.zeros((len(choices), longest), dtype=torch.long)
    targets = torch.full((len(choices), longest), -1)
    for row, choice in enumerate(choices):
        inputs[row, : len(choice) - 1] = torch.tensor(choice[:-1])
        targets[row, : len(choice) - 1] = torch.tensor(choice[1:])
    prefill.cache.batch_repeat_interleave(len(choices))
    positions = torch.arange(prefill.done, prefill.done + longest, device=model.device)
    logits = model(
        inputs.to(model.device), positions.expand(len(choices), -1), prefill.cache, last_only=False
    )
    scores = torch.log_softmax(logits.float(), dim=-1)
    targets = targets.to(scores.device)
    chosen = scores.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return chosen.masked_fill(targets < 0, 0.0).sum(dim=-1)
