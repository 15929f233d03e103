"""The likelihoods of given continuations, for an engine that tells those of single next tokens.

Choices that begin alike share their beginning, so the tokens of all choices form a tree. Where it
branches, there is a question to the model: given the prompt and the tokens up to here, how likely is
each of the tokens that follow? Tokens between branches are the same whatever is meant, so nothing is
asked about them: `needs`, once `possibly` has been said, tells no label from another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Tokens = tuple[int, ...]


class ChoiceTree:
    """The questions that some choices raise.

    Args:
        choices: tokens of each, at least one.
    """

    def __init__(self, choices: Sequence[Sequence[int]]) -> None:
        self._choices = [tuple(choice) for choice in choices]
        following: dict[Tokens, dict[int, None]] = {(): {}}
        ends: set[Tokens] = set(self._choices)
        for choice in self._choices:
            for place, token in enumerate(choice):
                following.setdefault(choice[:place], {})[token] = None
        self.questions: dict[Tokens, list[int]] = {
            begun: list(tokens)
            for begun, tokens in following.items()
            # Where a choice ends and another goes on, they part as well.
            if len(tokens) + (begun in ends) > 1
        }
        """The tokens that may follow, by what was said of the choice before them; `()` is the first."""

    def partings(self) -> list[list[int]]:
        """Return for each choice the places of the tokens that tell it from others."""
        return [
            [place for place in range(len(choice)) if choice[:place] in self.questions]
            for choice in self._choices
        ]

    def probabilities(self, answers: Mapping[Tokens, Mapping[int, float]]) -> list[float]:
        """Return the probability of each choice among the choices; they sum to one.

        The log-likelihood of a choice is divided by the number of the tokens that tell it from others,
        so that no label is less likely for its length alone (Brown et al. 2020, section 2.4, divide by
        all tokens: the ones that are certain would make a label of several words likelier).

        Args:
            answers: for each question the log-probability of each of its tokens.

        Raises:
            ValueError: a log-probability is not a number.
        """
        means = []
        for choice, places in zip(self._choices, self.partings(), strict=True):
            total = sum(answers[choice[:place]][choice[place]] for place in places)
            means.append(total / max(1, len(places)))
        best = max(means)
        if any(math.isnan(mean) for mean in means) or math.isinf(best):
            raise ValueError("the model's logits are not numbers")
        weights = [math.exp(mean - best) for mean in means]
        whole = sum(weights)
        return [weight / whole for weight in weights]
