"""Sentences of words thrown together, in any script, and questions made of a sentence's own words.

They teach plain matching: the sentence that shares most of the question's words is the answer.
"""

from __future__ import annotations

import random

from recipes.demo_model.corpus import words
from recipes.demo_model.corpus.entities import Entity, Period
from recipes.demo_model.corpus.relations import Statement, Surface
from recipes.demo_model.corpus.template import capitalise
from recipes.demo_model.corpus.values import fill


class Scatter:
    """A sentence of words thrown together; the question is a few of them."""

    def __init__(self, rng: random.Random, entity: Entity, alien: bool) -> None:
        self.entity = entity
        self.period: Period | None = None
        self.group = "scatter"
        pool = _alien_words if alien else _plain_words
        self.words = pool(rng, rng.randint(5, 16))
        self.key = tuple(self.words)
        self.topic = rng.choice(self.words)
        self.alien = alien

    def vary(self, rng: random.Random) -> Scatter | None:
        """Return a sentence that shares two words with this one."""
        other = Scatter(rng, self.entity, self.alien)
        for word in rng.sample(self.words, 2):
            other.words[rng.randrange(len(other.words))] = word
        return other

    def state(self, rng: random.Random, named: bool, dated: bool) -> Statement:
        """Return the words as one sentence."""
        text = capitalise(" ".join(self.words))
        if named and rng.random() < 0.5:
            text = f"{capitalise(self.entity.full)} {text[:1].lower() + text[1:]}"
        else:
            named = False
        return Statement(
            text + rng.choice((".", ".", ".", "!", "…", "。" if self.alien else ".")), named, False
        )

    def ask(self, rng: random.Random, surface: Surface, dated: bool) -> str:
        """Return a question of three to six of the words."""
        return _scatter_question(
            rng, rng.sample(self.words, min(len(self.words), rng.choice((3, 3, 4, 5, 6))))
        )

    def ask_unanswered(self, rng: random.Random, surface: Surface) -> str:
        """Return a question of words that are not in the sentence."""
        return _scatter_question(
            rng, (_alien_words if self.alien else _plain_words)(rng, rng.choice((3, 4, 5)))
        )


def _scatter_question(rng: random.Random, chosen: list[str]) -> str:
    text = " ".join(chosen)
    return rng.choice(
        (
            f"{capitalise(text)}?",
            f"What about {text}?",
            f"Tell me about {text}.",
            f"What is said of {text}?",
            text,
            f"Which {text}?",
            f"Who knows of {text}?",
            f"Where is it about {text}?",
        )
    )


def _plain_words(rng: random.Random, number: int) -> list[str]:
    chosen = []
    for _ in range(number):
        form = rng.random()
        if form < 0.4:
            chosen.append(words.noun(rng))
        elif form < 0.6:
            chosen.append(words.adjective(rng))
        elif form < 0.8:
            verb = rng.choice(rng.choice(words.VERBS))
            chosen.append(rng.choice((verb.past, verb.base)))
        elif form < 0.9:
            chosen.append(words.pseudo_word(rng))
        else:
            chosen.append(fill(rng, rng.choice(("count", "l", "lname", "percent", "p"))))
    return chosen


_SCRIPTS = (
    (0x391, 0x3C9),
    (0x410, 0x44F),
    (0x5D0, 0x5EA),
    (0x627, 0x64A),
    (0x905, 0x939),
    (0xE01, 0xE2E),
    (0x3042, 0x3093),
    (0x30A2, 0x30F3),
    (0x4E00, 0x9FA5),
    (0xAC00, 0xD7A3),
    (0xC0, 0x17E),
    (0x1F300, 0x1F64F),
    (0x2010, 0x2044),
    (0x20A0, 0x20BF),
    (0xA1, 0xFF),
    (0x21, 0x7E),
    (0x2190, 0x22FF),
    (0x10A0, 0x10FF),
    (0x1200, 0x135A),
)


def alien_word(rng: random.Random) -> str:
    """Return letters of some script, or signs of all sorts."""
    low, high = (
        rng.choice(_SCRIPTS)
        if rng.random() < 0.9
        else rng.choice(((0xA0, 0xFFF), (0x1000, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFF)))
    )
    return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 6)))


def _alien_words(rng: random.Random, number: int) -> list[str]:
    return [alien_word(rng) for _ in range(min(number, 8))]


_SKIPPED = frozenset(
    [
        "the",
        "and",
        "for",
        "with",
        "was",
        "were",
        "has",
        "have",
        "had",
        "that",
        "this",
        "from",
        "its",
        "into",
        "over",
        "which",
        "their",
        "about",
        "after",
    ]
)


def ask_by_words(rng: random.Random, sentence: str, name: str) -> str:
    """Return a question of a few of the sentence's own words; empty if it has too few."""
    known = set(name.split(" "))
    found = [word.strip(",.;:!?()“”\"'") for word in sentence.split(" ")]
    found = [word for word in found if len(word) > 3 and word.lower() not in _SKIPPED and word not in known]
    found = [word for word in found if not any(sign.isdigit() for sign in word)]
    if len(found) < 3:
        return ""
    chosen = rng.sample(found, min(len(found), rng.choice((2, 3, 3, 4))))
    if rng.random() < 0.5:
        chosen.sort(key=sentence.find)
    text = words.reword(rng, " ".join(chosen), 0.15)
    about = rng.choice((f" of {name}", f" at {name}", f" {name}", ""))
    return rng.choice(
        (
            f"What about the {text}{about}?",
            f"Tell me about {text}{about}.",
            f"{text}{about}",
            f"{text}{about}?",
            f"How was it with the {text}{about}?",
            f"What is known of {text}{about}?",
            f"Which {text}{about}?",
            f"Who {text}{about}?",
            f"When {text}{about}?",
            f"Why {text}{about}?",
            f"Where {text}{about}?",
            f"What was said on {text}{about}?",
            f"What {text}{about}?",
            f"How {text}{about}?",
        )
    )
