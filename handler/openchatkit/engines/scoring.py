"""Likelihoods of given continuations: one pass over all of them on top of the prompt's cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from openchatkit.engines.choice_tree import ChoiceTree
from openchatkit.engines.forward import CausalModel
from openchatkit.engines.requests import Prefill


def score_choices(
    model: CausalModel,
    prefill: Prefill,
    logits: torch.Tensor,
    choices: Sequence[Sequence[int]],
) -> list[float]:
    """Return the probability of each choice among the choices; they sum to one.

    Only tokens that tell one choice from another count; see `ChoiceTree.probabilities`.

    Args:
        prefill: the prompt, done. Its cache is used up.
        logits: what follows the prompt, shape `(1, vocabulary)`.
        choices: tokens of each, at least one.

    Raises:
        ValueError: the logits hold a NaN.
    """
    partings = ChoiceTree(choices).partings()
    first = torch.log_softmax(logits[0].float(), dim=-1)
    totals = first[torch.tensor([choice[0] for choice in choices], device=first.device)]
    # A first token that all choices share tells none from another.
    totals = totals.masked_fill(torch.tensor([0 not in places for places in partings]).to(totals.device), 0.0)
    if longest := max((places[-1] for places in partings if places), default=0):
        totals = totals + _rest(model, prefill, choices, partings, longest).to(totals.device)
    lengths = torch.tensor([max(1, len(places)) for places in partings], device=totals.device)
    probabilities = torch.softmax((totals / lengths).double(), dim=-1)
    if probabilities.isnan().any():
        raise ValueError("the model's logits are not numbers")
    result: list[float] = probabilities.tolist()
    return result


def _rest(
    model: CausalModel,
    prefill: Prefill,
    choices: Sequence[Sequence[int]],
    partings: Sequence[Sequence[int]],
    longest: int,
) -> torch.Tensor:
    """Return the log-likelihood of each choice behind its first token, shape `(choices,)`."""
    # Padding stands to the right, where causal attention hides it from the choice's own tokens.
    inputs = torch.zeros((len(choices), longest), dtype=torch.long)
    targets = torch.full((len(choices), longest), -1)
    for row, (choice, places) in enumerate(zip(choices, partings, strict=True)):
        read = choice[:longest]
        inputs[row, : len(read)] = torch.tensor(read)
        for place in places:
            if place > 0:
                targets[row, place - 1] = choice[place]
    prefill.cache.batch_repeat_interleave(len(choices))
    positions = torch.arange(prefill.done, prefill.done + longest, device=model.device)
    logits = model(
        inputs.to(model.device), positions.expand(len(choices), -1), prefill.cache, last_only=False
    )
    scores = torch.log_softmax(logits.float(), dim=-1)
    targets = targets.to(scores.device)
    chosen = scores.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return chosen.masked_fill(targets < 0, 0.0).sum(dim=-1)
