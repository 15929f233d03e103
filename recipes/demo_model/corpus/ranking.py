"""Passages in the order of a search, as they are when the model is used.

The search puts what it thinks best first and is right most of the time, also where a question's
words are none of the passage's: its encoder knows synonyms, a model of this size few. The last part
of the training teaches to lean on that order where the words do not decide: passages are mostly the
one sentence that was found, the right one mostly first, and some questions have a word nobody knows.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import TypeVar

from recipes.demo_model.corpus import words

FIRST, SECOND = 0.8, 0.12
"""How often the right passage comes first, second: about what a search over single sentences gives."""
SINGLE = 0.35
"""Share of searches whose passages are single sentences."""
BLURRED = 0.35
"""Share of answerable questions with a foreign word in place of one of theirs."""
NAMED = 0.3
"""Share of single sentences that name their subject: the title does."""

_T = TypeVar("_T")
_WORD = re.compile(r"\b[a-z]{4,}\b")


def rank(rng: random.Random, pages: Sequence[_T], best: _T) -> list[_T]:
    """Return the pages with the best one where a search would put it, the others as they are."""
    others = [page for page in pages if page is not best]
    form = rng.random()
    place = 0 if form < FIRST else 1 if form < FIRST + SECOND else rng.randint(1, max(1, len(others)))
    return [*others[:place], best, *others[place:]]


def blur(rng: random.Random, question: str) -> str:
    """Return the question with one or two of its words replaced by others, as unknown synonyms are."""
    for _ in range(1 if rng.random() < 0.7 else 2):
        found = [match for match in _WORD.finditer(question) if match.group() not in words.GRAMMAR_WORDS]
        if not found:
            return question
        match = rng.choice(found)
        form = rng.random()
        other = (
            words.pseudo_word(rng) if form < 0.3
            else words.noun(rng) if form < 0.65
            else rng.choice(rng.choice(words.VERBS)).past if match.group().endswith("ed")
            else rng.choice(rng.choice(words.VERBS)).base
        )  # fmt: skip
        question = question[: match.start()] + other + question[match.end() :]
    return question


def blur_foreign(rng: random.Random, question: str, sentence: str) -> str:
    """Return the question with a word that its sentence lacks replaced: an unknown synonym for another."""
    known = {match.group()[:5] for match in _WORD.finditer(sentence.lower())}
    found = [
        match
        for match in _WORD.finditer(question)
        if match.group() not in words.GRAMMAR_WORDS and match.group()[:5] not in known
    ]
    if not found:
        return question
    match = rng.choice(found)
    other = words.pseudo_word(rng) if rng.random() < 0.3 else words.noun(rng)
    return question[: match.start()] + other + question[match.end() :]
