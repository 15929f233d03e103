"""Words in common between a question and a sentence, weighed by how rare they are.

A sentence embedding blurs what sets two sentences of annual reports apart: the company, the year, the
name of a product. `LexicalIndex.coverage` says how much of the question's weight in rare words a
sentence, its title and its heading hold. It is a help for a ranking of some ten thousand sentences,
not a search engine: postings live in memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"[^\W_]+(?:[.,'’&-][^\W_]+)*")
_POSSESSIVE = re.compile(r"['’]s?$")
_ENDINGS = ("ing", "ie", "ied", "edly", "ed", "ly", "er", "ion", "e", "y")
_STOP_WORDS = frozenset(
    re.split(
        r"\s+",
        """a an the of in on at to for from by with and or is are was were be been being do does did has have
        had how what which who whom whose when where why much many long it its his her this that these those
        as than then there into over out up will would can could should may might not no i you we they he she
        me my your our say tell about any some all""",
    )
)
# What finance writes both ways.
_ABBREVIATIONS: Mapping[str, tuple[str, ...]] = {
    "ceo": ("chief", "executive"),
    "cfo": ("chief", "financial"),
    "coo": ("chief", "operating"),
    "r&d": ("research", "development"),
    "ipo": ("public", "offering"),
    "capex": ("capital", "expenditure"),
}


def terms(text: str) -> set[str]:
    """Return the words of a text that mean something, lower case, without their endings."""
    found: set[str] = set()
    for match in _WORD.finditer(text.lower()):
        word = _POSSESSIVE.sub("", match.group())
        if not word or word in _STOP_WORDS:
            continue
        found.add(_stem(word))
        found.update(map(_stem, _ABBREVIATIONS.get(word, ())))
        if "-" in word:
            found.update(_stem(part) for part in word.split("-") if part)
    return found


def _stem(word: str) -> str:
    if word[0].isdigit():
        return word
    # The plural goes first: `acquisitions` and `acquisition` are to end alike.
    for endings in (("s",), _ENDINGS):
        ending = next((e for e in endings if word.endswith(e) and len(word) - len(e) >= 3), "")
        word = word[: len(word) - len(ending)]
    return word


class LexicalIndex:
    """Postings of weighed terms over rows `0 .. n-1`."""

    def __init__(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Index rows, each a map of terms to their weight in [0, 1] there."""
        found: dict[str, tuple[list[int], list[float]]] = {}
        self._rows = 0
        for row, weights in enumerate(rows):
            self._rows += 1
            for term, weight in weights.items():
                numbers, values = found.setdefault(term, ([], []))
                numbers.append(row)
                values.append(weight)
        self._postings = {
            term: (np.array(numbers, dtype=np.int64), np.array(values, dtype=np.float32))
            for term, (numbers, values) in found.items()
        }

    def coverage(self, question: str) -> NDArray[np.float32]:
        """Return for each row the share of the question's weight that it holds, in [0, 1].

        Words that stand in no row at all are left out of account.
        """
        scores = np.zeros(self._rows, dtype=np.float32)
        total = 0.0
        for term in sorted(terms(question)):
            posting = self._postings.get(term)
            if posting is None:
                continue
            rarity = math.log(1 + (self._rows - len(posting[0]) + 0.5) / (len(posting[0]) + 0.5))
            scores[posting[0]] += rarity * posting[1]
            total += rarity
        return scores / np.float32(total) if total else scores
