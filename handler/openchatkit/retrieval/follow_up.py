"""What to search for when a question leans on the ones before it, such as `And its net income?`.

Rules over words, pure and fast. They rather ask once too often than miss: the question itself is always
among the queries, and the best passages of all of them win.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_EARLIER = 2
"""Earlier questions that are put in front; a chain of follow-ups seldom reaches further back."""
LONG_QUESTION = 40
"""Words of a question that says itself what it is about, but for the names."""

_OPENING = re.compile(r"\W*(?:and|but|or|so|then|also|what about|how about|why not|for how)\b", re.IGNORECASE)
_POINTING = re.compile(
    r"\b(?:it|its|they|their|theirs|them|he|his|him|she|her|hers|those|both|"
    r"th(?:is|at|ese)(?! (?:year|quarter|month|week|morning)\b)|(?<!is )(?<!are )(?<!was )(?<!were )there|"
    r"the (?:same|company|group|firm|bank|airline|fund|business|deal|other|latter|former))\b",
    re.IGNORECASE,
)
_OPENING_WORD = re.compile(
    r"\W*(?:who|whom|whose|what|which|when|where|why|how|is|are|was|were|do|does|did|has|have|had|can|could|"
    r"will|would|should|may|and|but|or|so|then|also|in|on|at|by|for|to|of|with|from|please|tell|give|show|the)\b",
    re.IGNORECASE,
)
# Said to the bot: it needs no passages, least of all those of the question before.
_ADDRESSING = re.compile(r"\b(?:are you|you do|your name|thanks?|hello|hi|hey|bye|goodbye)\b", re.IGNORECASE)
# A run of capitalised words: `Bank of Tamberlyn`, `VB-310`, `Corvane Hydraulics`.
_NAME = re.compile(r"\b[^\W\d_a-z][\w&'’-]*(?:(?: of| de| and| &)? [^\W\d_a-z][\w&-]*)*")
_POSSESSIVE = re.compile(r"['’]s?$")
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_FILLER = re.compile(
    r"\b(?:and|but|what|how|about|or|in|for|at|of|with|fiscal|year|the|then)\b|\W", re.IGNORECASE
)


def follow_up_queries(question: str, earlier: Sequence[str]) -> list[str]:
    """Return the texts to search for, the question itself first.

    Args:
        question: the new one.
        earlier: the conversation's questions before it, oldest first.

    Returns:
        The question alone where it speaks for itself. Where it only swaps a name or a year (`And in
        2024?`), also the one before with that put in. Else also the question behind the names of the
        questions that it leans on, and behind those questions themselves if it is not long.
    """
    if not earlier or not _leans(question):
        return [question]
    swapped = _swapped(question, earlier[-1])
    if swapped:
        return [question, swapped]
    needed: list[str] = []
    for previous in reversed(earlier[-MAX_EARLIER:]):
        needed.insert(0, previous)
        if not _leans(previous):
            break
    names = list(dict.fromkeys(name for previous in needed for name in _names(previous)))
    texts = [question, " ".join([*names, question])]
    if len(question.split()) <= LONG_QUESTION:
        texts.append(" ".join([*needed, question]))
    return list(dict.fromkeys(texts))


def _leans(question: str) -> bool:
    if _OPENING.match(question):
        return True
    names = _names(question)
    pointing = _POINTING.search(question)
    if pointing:
        # A name that comes first is what the pronoun stands for.
        return not (names and question.index(names[0]) < pointing.start())
    return not names and not _YEAR.search(question) and not _ADDRESSING.search(question)


def _names(text: str) -> list[str]:
    """Return the names in a question. Its first word has a capital in any case."""
    opened = _OPENING_WORD.match(text)
    while opened:
        text = text[opened.end() :]
        opened = _OPENING_WORD.match(text)
    found = (_POSSESSIVE.sub("", match.group()) for match in _NAME.finditer(text))
    return [name for name in dict.fromkeys(found) if len(name) > 1]


def _swapped(question: str, previous: str) -> str | None:
    """Return the question before with this one's name or year in it, None where there is more to it."""
    names, years = _names(question), _YEAR.findall(question)
    rest = question
    for known in [*names, *years]:
        rest = rest.replace(known, " ")
    rest = re.sub(r"['’]s\b", " ", rest)
    if _FILLER.sub("", rest) or not (names or years):
        return None
    text = previous
    for new, old in ((names, _names(previous)), (years, _YEAR.findall(previous))):
        if new and not old:
            return None
        if new:
            text = text.replace(old[0], new[0])
    return text
