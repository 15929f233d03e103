"""Names by the letter: syllables in the manner of a dozen languages, and plain strings of letters.

A name is there to be copied. The more ways its letters fall into tokens, the less a model can do but copy.
None is meant to be right in its language.
"""

from __future__ import annotations

import random
from functools import cache

from recipes.demo_model.corpus.template import read_lines

_LETTERS = "aabcdeefghiijklmnoopqrrsttuvwxyz"
_CAMEL = 0.06
"""Share of names with a capital or a digit in the middle: `QuoTan`, `Vel7`."""


@cache
def _tongues() -> tuple[tuple[tuple[str, ...], ...], ...]:
    """Return onsets, nuclei, codas and endings of each language of `tongues.txt`."""
    return tuple(
        tuple(tuple("" if piece == "-" else piece for piece in part.split()) for part in line.split("/"))
        for line in read_lines("tongues.txt")
    )


def foreign(rng: random.Random) -> str:
    """Return a capitalised name of one to four syllables of one language, or of mere letters."""
    form = rng.random()
    if form < 0.08:
        return "".join(rng.choice(_LETTERS) for _ in range(rng.randint(3, 10))).capitalize()
    onsets, nuclei, codas, endings = rng.choice(_tongues())
    name = "".join(
        rng.choice(onsets) + rng.choice(nuclei) + (rng.choice(codas) if rng.random() < 0.6 else "")
        for _ in range(rng.choice((1, 1, 2, 2, 2, 3)))
    )
    name = (name + rng.choice(endings) if rng.random() < 0.5 else name).capitalize()
    if form > 1 - _CAMEL:
        tail = rng.choice(onsets) + rng.choice(nuclei)
        name += tail.capitalize() if rng.random() < 0.7 else str(rng.randint(1, 99))
    return name
