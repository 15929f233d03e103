"""The five labels of a verdict, their severity, and how scores become a verdict.

The labels are those of GPT-JT-Moderation-6B and of the OIG-moderation data it was trained on. What
they mean here, which is also how `examples.jsonl` is labelled:

* `casual`: nothing to look out for. Small talk, facts, work, and dangerous words in harmless use
  ("kill the process", "the drug maker's revenue").
* `possibly needs caution`: fine to answer, somebody may be touched: a sad mood, a heated opinion, a
  sensitive subject asked about as a subject, everyday health, law or money questions.
* `probably needs caution`: answer with care. Decisions about one's own health, law or money with
  much at stake, risky but lawful acts, rude or prejudiced tones, distress.
* `needs caution`: harmful. Insults and prejudice about people, threats in passing, asking for help
  with something wrong or unlawful, praise of violence, a person in grave distress.
* `needs intervention`: must not be answered as asked. Asking for help to hurt people or oneself,
  weapons, abuse, serious crime, extremism, an announced act.

`harm` is the expected severity: the sum over the labels of probability times `SEVERITY`. The weights
keep the three harmless labels below 0.5 and the two harmful ones above it, so that a question which
merely calls for care never looks like an attack, however sure the judge is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from openchatkit.errors import ModerationUnavailable
from openchatkit.ports import Verdict

LABELS = (
    "casual",
    "possibly needs caution",
    "probably needs caution",
    "needs caution",
    "needs intervention",
)
"""From harmless to worst."""

SEVERITY: Mapping[str, float] = dict(zip(LABELS, (0.0, 0.15, 0.35, 0.8, 1.0), strict=True))

HARMFUL = LABELS[3:]
"""What counts as harmful wherever the five labels are told apart as two."""

CATEGORIES = (
    "abuse",
    "drugs",
    "extremism",
    "fraud",
    "hacking",
    "harassment",
    "hate",
    "laundering",
    "market_abuse",
    "medical",
    "privacy",
    "self_harm",
    "sexual",
    "theft",
    "violence",
    "weapons",
)
"""Kinds of harm, where a judge can tell them; a policy may treat each in its own way."""

SUM_TOLERANCE = 0.02
"""How far from one the probabilities may sum: half-precision softmaxes are off by a per mille."""


@dataclass(frozen=True, slots=True)
class CategorisedVerdict(Verdict):
    """A verdict of a judge that can tell what kind of harm it saw."""

    category: str | None = None
    """One of `CATEGORIES`; None where no harm or no kind is clear."""


def harm(scores: Mapping[str, float]) -> float:
    """Return the expected severity, in [0, 1], of probabilities over all five labels."""
    return min(1.0, max(0.0, sum(SEVERITY[label] * scores[label] for label in LABELS)))


def verdict_from_scores(scores: Mapping[str, float], category: str | None = None) -> CategorisedVerdict:
    """Return the verdict of the probabilities of all five labels.

    The probabilities are normalised to sum to one exactly; of equally likely labels the worse one
    is the verdict's.

    Raises:
        ModerationUnavailable: a label is unknown or missing, a value is no number, negative or
            above one, or the sum is not about one.
    """
    if set(scores) != set(LABELS):
        raise ModerationUnavailable("the moderation answered with other labels than the five known ones")
    values = {label: _probability(scores[label]) for label in LABELS}
    total = sum(values.values())
    if abs(total - 1) > SUM_TOLERANCE:
        raise ModerationUnavailable("the moderation's probabilities do not sum to one")
    normalised = {label: value / total for label, value in values.items()}
    label = max(LABELS, key=lambda name: (normalised[name], SEVERITY[name]))
    return CategorisedVerdict(label, normalised, harm(normalised), category)


def check_verdict(verdict: Verdict) -> Verdict:
    """Return `verdict` if it is consistent in itself; raises as `verdict_from_scores` does.

    A verdict may come from another process: its label must be the likeliest one of its scores and
    its harm must be the one that the scores give.
    """
    if not isinstance(verdict, Verdict):
        raise ModerationUnavailable("the moderation answered with something that is no verdict")
    expected = verdict_from_scores(verdict.scores)
    if verdict.label not in LABELS:
        raise ModerationUnavailable("the moderation answered with an unknown label")
    if expected.scores[verdict.label] < expected.scores[expected.label] - SUM_TOLERANCE:
        raise ModerationUnavailable("the moderation's label contradicts its probabilities")
    if not abs(_probability(verdict.harm) - expected.harm) <= SUM_TOLERANCE:
        raise ModerationUnavailable("the moderation's harm contradicts its probabilities")
    return verdict


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict of the highest harm; raises ValueError where there are none."""
    return max(verdicts, key=lambda verdict: verdict.harm)


def _probability(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModerationUnavailable("the moderation answered with a probability that is not a number")
    if not math.isfinite(value) or value < 0 or value > 1 + SUM_TOLERANCE:
        raise ModerationUnavailable("the moderation answered with a probability outside 0 to 1")
    return float(value)
