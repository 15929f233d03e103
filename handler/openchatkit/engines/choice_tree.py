"""The likelihoods of given continuations, for an engine that tells those of single next tokens.

Choices that begin alike share their beginning, so the tokens of all choices form a tree. Each of its
inner nodes is one question to the model: given the prompt and the tokens up to here, how likely is
each of the tokens that follow? The answers of all nodes give every choice's likelihood exactly.
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
        for choice in self._choices:
            for place, token in enumerate(choice):
                following.setdefault(choice[:place], {})[token] = None
        self.questions: dict[Tokens, list[int]] = {
            begun: list(tokens) for begun, tokens in following.items() if tokens
        }
        """The tokens that may follow, by what was said of the choice before them; `()` is the first."""

    def probabilities(self, answers: Mapping[Tokens, Mapping[int, float]]) -> list[float]:
        """Return the probability of each choice among the choices; they sum to one.

        The log-likelihood of a choice is divided by its number of tokens, so that a long label is
        not less likely for its length alone (Brown et al. 2020, section 2.4).

        Args:
            answers: for each question the log-probability of each of its tokens.

        Raises:
            ValueError: a log-probability is not a number.
        """
        means = []
        for choice in self._choices:
            total = sum(answers[choice[:place]][token] for place, token in enumerate(choice))
            means.append(total / len(choice))
        best = max(means)
        if any(math.isnan(mean) for mean in means) or math.isinf(best):
            raise ValueError("the model's logits are not numbers")
        weights = [math.exp(mean - best) for mean in means]
        whole = sum(weights)
        return [weight / whole for weight in weights]
