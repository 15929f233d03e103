"""Text to sentences: rules for English business prose, pure and linear in the length of the text.

No model and no list of a language: a full stop ends a sentence unless it belongs to an abbreviation
(`Inc.`, `U.S.`, `No. 4`), an initial or a number. No character but white space is ever lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_SENTENCE_CHARACTERS = 600
"""A longer one is cut at a word's end: the encoder reads no further and a prompt has little room."""

# Possessive, and only from a run's first character: a megabyte of full stops costs one pass.
_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’»)\]]*+(?=\s)")
_WORD_BEFORE = re.compile(r"[\w.&-]{1,24}$")
_STARTER = re.compile(r"[\"'“‘«(\[]*[A-Z0-9À-ÖØ-ÞĀ-Ž$€£¥#<]")
_BLANK = re.compile(r"\s+")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A full stop behind one of these never ends a sentence ...
_ALWAYS_GOES_ON = _words(
    "mr mrs ms messrs dr prof st gen col lt sgt capt rev hon gov sen rep no nos vol fig figs eq sec art ch "
    "pp ed eds vs cf e.g i.e approx ca est incl excl resp mt ft al jan feb mar apr jun jul aug sep sept oct "
    "nov dec tel ext dept univ ave blvd"
)
# ... and behind one of these only where the next word opens a sentence for certain.
_MAY_END = _words(
    "inc corp co ltd llc plc bros cos s.a n.v b.v a.g s.p.a u.s u.k u.n e.u u.s.a d.c a.m p.m etc ph.d jr sr "
    "mio bn mln pct"
)
_OPENERS = _words(
    "the a an it its he she they we i in on at for from with after before since during under as if when "
    "while although however this that these those there our his her their both but and so no not all some "
    "many most other another net gross total revenue sales profit"
)


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text, white space collapsed, each at most the limit long."""
    flat = _BLANK.sub(" ", text).strip()
    return [part for sentence in _sentences(flat) for part in _cut(sentence)]


def _sentences(flat: str) -> Iterator[str]:
    start = 0
    for match in _END.finditer(flat):
        if _ends_here(flat, start, match):
            yield flat[start : match.end()].strip()
            start = match.end()
    if flat[start:].strip():
        yield flat[start:].strip()


def _ends_here(flat: str, start: int, match: re.Match[str]) -> bool:
    rest = flat[match.end() + 1 : match.end() + 40]
    if not rest or not _STARTER.match(rest):
        # `... said Smith. and` is a typo or an abbreviation that we do not know; `...` goes on too.
        return not rest or (match.group() not in {".", "...", "…"} and not rest[:1].islower())
    if not match.group().startswith(".") or match.group().startswith(".."):
        return True
    found = _WORD_BEFORE.search(flat, max(start, match.start() - 24), match.start())
    word = found.group().lower().lstrip("-.&") if found else ""
    if word == "p" and rest[0].isdigit():
        return False
    if word in _ALWAYS_GOES_ON:
        # "No." is a number's label before a digit, and an answer elsewhere.
        return word in {"no", "nos", "art", "mar", "sec"} and not rest[0].isdigit()
    opens = re.split(r"[\s,;:]", rest.lstrip("\"'“‘«(["), maxsplit=1)[0].lower() in _OPENERS
    initial = len(word) == 1 and word.isalpha() and flat[match.start() - 1].isupper()
    if word in _MAY_END or initial:
        return opens
    # `1.` alone at a sentence's start numbers it.
    return not (word.isdigit() and match.start() - start <= 3)


def _cut(sentence: str) -> Iterator[str]:
    start = 0
    while len(sentence) - start > MAX_SENTENCE_CHARACTERS:
        least, most = start + MAX_SENTENCE_CHARACTERS // 2, start + MAX_SENTENCE_CHARACTERS
        at = max(sentence.rfind("; ", least, most), sentence.rfind(", ", least, most)) + 1
        at = at or sentence.rfind(" ", least, most)
        end = at if at > 0 else most
        yield sentence[start:end].strip()
        start = end
    if sentence[start:].strip():
        yield sentence[start:].strip()
