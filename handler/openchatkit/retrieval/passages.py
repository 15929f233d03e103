"""From a hit to a passage: its neighbours, and what counts as the same passage twice."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openchatkit.retrieval.documents import Sentence

MAX_PASSAGE_SENTENCES = 4
MAX_PASSAGE_CHARACTERS = 700
"""Three passages and a conversation have to fit a small model's thousand tokens."""
MAX_REACH_BACK = 2
"""Sentences before the hit that a sentence may lean on, one on the next."""
SHINGLE = 4
"""Words in a row; texts that share most of them say the same."""
DUPLICATE_SHARE = 0.6

_WORD = re.compile(r"[^\W_]+(?:[.,'’&-][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Window:
    """How far a passage reaches beyond its hit.

    OpenChatKit's `WikipediaIndex.search` calls them w and w_th. The threshold is high because each
    sentence is embedded behind its title: sentences of one section are alike to begin with.
    """

    sentences: int = 1
    """Most neighbours on each side (w)."""
    similarity: float = 0.7
    """Least cosine of a neighbour to the hit (w_th)."""


@dataclass(slots=True)
class Span:
    """Sentences `first .. last` of a document, both included."""

    document: int
    first: int
    last: int
    score: float


def widen(
    hit: int, sentences: Sequence[Sentence], similarity: Callable[[int], float], window: Window
) -> tuple[int, int]:
    """Return the first and last sentence of the passage around a hit.

    Neighbours join one by one, nearest first, as long as they stand under the same heading and are
    like enough to the hit. A sentence that leans on the one before it brings that one in before all
    others.

    Args:
        hit: number of the sentence that was found.
        sentences: those of its document; a passage cannot leave them.
        similarity: cosine of a sentence, by its number, to the hit.
        window: the limits.
    """
    first = last = hit
    size = len(sentences[hit].text)

    def fits(number: int) -> bool:
        return (
            0 <= number < len(sentences)
            and sentences[number].place == sentences[hit].place
            and last - first + 1 < MAX_PASSAGE_SENTENCES
            and size + len(sentences[number].text) < MAX_PASSAGE_CHARACTERS
        )

    def reach_back() -> None:
        nonlocal first, size
        while sentences[first].leans and hit - first < MAX_REACH_BACK and fits(first - 1):
            first -= 1
            size += len(sentences[first].text) + 1

    reach_back()
    for distance in range(1, window.sentences + 1):
        # A side that has stopped short of this distance stays where it is.
        if first == hit - distance + 1 and fits(first - 1) and similarity(first - 1) >= window.similarity:
            first -= 1
            size += len(sentences[first].text) + 1
        if last == hit + distance - 1 and fits(last + 1) and similarity(last + 1) >= window.similarity:
            last += 1
            size += len(sentences[last].text) + 1
    reach_back()
    return first, last


def join(spans: list[Span], new: Span, hit: int, sentences: Sequence[Sentence]) -> None:
    """Add a span; no sentence of its document is in two spans afterwards.

    Where it overlaps others it gives up what they have, and becomes one with the first of them that
    has room for it. Merging keeps the better score.

    Args:
        spans: those there are.
        new: the one to add.
        hit: the sentence that the new one is about; none of the others holds it.
        sentences: those of its document.
    """
    others = [
        span
        for span in spans
        if span.document == new.document and new.first <= span.last and span.first <= new.last
    ]
    for span in others:
        if hit < span.first:
            new.last = min(new.last, span.first - 1)
        else:
            new.first = max(new.first, span.last + 1)
    for span in others:
        first, last = min(span.first, new.first), max(span.last, new.last)
        size = sum(len(sentence.text) + 1 for sentence in sentences[first : last + 1])
        if last - first < MAX_PASSAGE_SENTENCES and size <= MAX_PASSAGE_CHARACTERS:
            span.first, span.last, span.score = first, last, max(span.score, new.score)
            return
    spans.append(new)


def same(one: str, other: str) -> bool:
    """Return whether two texts say the same for the most part, in the same words.

    Numbers count as words: the same sentence about another year is another sentence.
    """
    shingles, others = _shingles(one), _shingles(other)
    shared = len(shingles & others)
    return shared > 0 and shared >= DUPLICATE_SHARE * min(len(shingles), len(others))


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    if len(words) <= SHINGLE:
        return {tuple(words)} if words else set()
    return {tuple(words[at : at + SHINGLE]) for at in range(len(words) - SHINGLE + 1)}
