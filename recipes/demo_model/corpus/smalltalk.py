"""Greetings, thanks and questions about the assistant itself, with one fixed reply an intent."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cache

from recipes.demo_model.corpus.template import Template, read_lines
from recipes.demo_model.corpus.values import fill


@dataclass(slots=True)
class Intent:
    """What people mean and what the assistant says to it."""

    name: str
    replies: list[str] = field(default_factory=list)
    wordings: list[Template] = field(default_factory=list)


@cache
def intents() -> tuple[Intent, ...]:
    """Return the intents of `smalltalk.txt`."""
    found: list[Intent] = []
    for line in read_lines("smalltalk.txt"):
        mark, _, text = line.partition(" ")
        if mark == "=":
            found.append(Intent(text.strip()))
        elif mark == "R":
            found[-1].replies.append(text)
        else:
            found[-1].wordings.append(Template(text.replace("[1]", "(1)")))
    return tuple(found)


def chat(rng: random.Random, today: str) -> tuple[str, str, str]:
    """Return something said, the reply, and the intent's name. `today` empty leaves the date out."""
    intent = rng.choice(intents())
    while intent.name == "today" and not today:
        intent = rng.choice(intents())
    said = rng.choice(intent.wordings).expand(rng, lambda slot: fill(rng, slot))
    form = rng.random()
    said = said.lower() if form < 0.3 else said.upper() if form < 0.32 else said
    return said or "Hello", rng.choice(intent.replies).replace("{today}", today), intent.name
