"""One passage, as a reranker leaves it, and the reply that repeats it.

What to decline is the reranker's part then: it shows a passage that answers or none. So the model repeats
whatever single passage it is shown, whole: a passage is a sentence behind those that it leans on.
Half of the examples are of written documents (`recipes/questions`), whose language the templates lack.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cache

from openchatkit.prompt import neutralise_passage
from openchatkit.retrieval.splitter import split_sentences
from recipes.demo_model.corpus import disguise
from recipes.demo_model.corpus.scenes import Passage
from recipes.questions.bundles import Bundle, bundles

LENGTHS = (1, 1, 1, 1, 1, 1, 2, 2, 3)
"""Sentences of a passage that is cut out of a generated one."""
NEAR_MISS = 0.25
"""Share of written questions that are shown a passage of their bundle that does not answer."""
SWAPPED = 0.08
"""Share of the words of a written passage that are swapped for others: it is not to be learned by heart."""
DATED = 0.5

_DIGIT = re.compile(r"\d")
_PLAIN = re.compile(r"\b[a-z]{5,}\b")


@dataclass(frozen=True, slots=True)
class Written:
    """A question on a written document."""

    question: str
    before: tuple[str, str] | None
    """The question before it and a reply, for a follow-up."""
    passage: Passage


@cache
def _bundles(held_out: bool) -> tuple[Bundle, ...]:
    return tuple(bundles(held_out=held_out))


def _altered(rng: random.Random, text: str) -> str:
    text = _DIGIT.sub(lambda digit: rng.choice("0123456789"), text)
    return _PLAIN.sub(
        lambda word: disguise.another(rng, word.group()) if rng.random() < SWAPPED else word.group(), text
    )


def written(rng: random.Random, today_year: int, *, held_out: bool = False) -> Written:
    """Return a written question with a passage of its bundle, mostly one that answers.

    Args:
        today_year: passages are not dated after it.
        held_out: take the questions that training never sees, as they stand.
    """
    bundle = rng.choice(_bundles(held_out))
    asked = rng.choice(bundle.questions)
    answering = sorted(asked.answers)
    at = rng.choice(answering if answering and rng.random() > NEAR_MISS else range(len(bundle.candidates)))
    shown = bundle.candidates[at]
    text = shown.text if held_out else _altered(rng, shown.text)
    date = f"{today_year - rng.randrange(4)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    before = None
    if asked.before is not None:
        said = neutralise_passage(rng.choice(bundle.candidates).text)
        before = (asked.before, f"{said} [1]")
    passage = Passage(shown.title, date if rng.random() < DATED else None, neutralise_passage(text))
    return Written(asked.question, before, passage)


def cut(rng: random.Random, passage: Passage, answer: str) -> Passage:
    """Return the passage cut down to a few sentences, the one that answers among them."""
    sentences = [sentence.strip() for sentence in split_sentences(passage.text)]
    if answer not in sentences:
        return Passage(passage.title, passage.date, answer)
    at = sentences.index(answer)
    length = rng.choice(LENGTHS)
    first = max(0, at - rng.randrange(length))
    return Passage(passage.title, passage.date, " ".join(sentences[first : first + length]))


def repeated(passage: Passage) -> str:
    """Return the reply to a single passage."""
    return f"{neutralise_passage(passage.text)} [1]"
