"""Swaps the words that a statement and its question share for other words of the same sort.

    The bridge of {E} was painted in {y}.     Who painted the bridge of {E}?
    The invoice of {E} was counted in {y}.    Who counted the invoice of {E}?

So a relation cannot be learned by heart: its grammar stays, its words have to be matched.
"""

from __future__ import annotations

import random
import re
from functools import cache

from recipes.demo_model.corpus import words
from recipes.demo_model.corpus.template import Template

_PIECE = re.compile(r"(\{[^}]*\})")
_WORD = re.compile(r"[A-Za-z]+")
_KEPT = words.GRAMMAR_WORDS | frozenset(
    [
        "all",
        "also",
        "amount",
        "and",
        "are",
        "but",
        "can",
        "cent",
        "city",
        "company",
        "could",
        "day",
        "did",
        "end",
        "far",
        "fast",
        "first",
        "for",
        "had",
        "has",
        "how",
        "its",
        "kind",
        "last",
        "less",
        "may",
        "million",
        "month",
        "must",
        "name",
        "new",
        "next",
        "not",
        "number",
        "off",
        "often",
        "old",
        "one",
        "out",
        "part",
        "people",
        "per",
        "percent",
        "person",
        "share",
        "should",
        "some",
        "start",
        "the",
        "three",
        "time",
        "town",
        "two",
        "very",
        "was",
        "week",
        "who",
        "why",
        "year",
        "you",
        "your",
    ]
)


@cache
def _forms() -> dict[str, tuple[str, str]]:
    """Return each known form with its lemma and its sort: which ending it has, in effect."""
    found: dict[str, tuple[str, str]] = {}
    for cluster in words.VERBS:
        for verb in cluster:
            found.setdefault(verb.past, (verb.base, "past"))
            found.setdefault(verb.participle, (verb.base, "participle"))
            found.setdefault(words.gerund(verb.base), (verb.base, "gerund"))
            found.setdefault(words.third_person(verb.base), (verb.base, "third"))
            found.setdefault(verb.base, (verb.base, "base"))
    for nouns in words.NOUNS:
        for noun in nouns:
            found[noun] = (noun, "noun")
            found[words.plural(noun)] = (noun, "plural")
    for adjectives in words.ADJECTIVES:
        for adjective in adjectives:
            found[adjective] = (adjective, "adjective")
    return found


def _lemma(word: str) -> tuple[str, str]:
    """Return a word's lemma and sort; unknown words count as nouns or regular verbs."""
    known = _forms().get(word)
    if known:
        return known
    if word.endswith("ed") and len(word) > 5:
        return word[:-2].rstrip("e"), "past"
    if word.endswith("s") and not word.endswith("ss"):
        return word[:-1], "plural"
    return word, "noun"


def _lemmas(text: str) -> set[str]:
    bare = _PIECE.sub(" ", text)
    return {_lemma(word)[0] for word in _WORD.findall(bare.lower()) if len(word) > 2 and word not in _KEPT}


def _replacement(rng: random.Random, sorts: set[str]) -> dict[str, str]:
    if sorts & {"past", "participle", "gerund", "third", "base"}:
        verb = rng.choice(rng.choice(words.VERBS))
        return {
            "past": verb.past,
            "participle": verb.participle,
            "gerund": words.gerund(verb.base),
            "base": verb.base,
            "third": words.third_person(verb.base),
            "noun": verb.base,
            "plural": words.third_person(verb.base),
        }
    if "adjective" in sorts:
        return dict.fromkeys(("adjective", "noun", "plural"), words.adjective(rng))
    noun = words.noun(rng)
    return {"noun": noun, "plural": words.plural(noun), "adjective": noun}


def _swap(text: str, table: dict[str, dict[str, str]]) -> str:
    def change(match: re.Match[str]) -> str:
        lemma, sort = _lemma(match.group().lower())
        return table[lemma].get(sort, match.group()) if lemma in table else match.group()

    return "".join(
        piece if piece.startswith("{") else _WORD.sub(change, piece) for piece in _PIECE.split(text)
    )


def swaps(rng: random.Random, told: str, asked: str) -> dict[str, dict[str, str]]:
    """Return what to put in place of the words that two texts with slots share; empty if they share none."""
    common = _lemmas(told) & _lemmas(asked)
    sorts: dict[str, set[str]] = {lemma: set() for lemma in sorted(common)}
    for word in _WORD.findall(_PIECE.sub(" ", f"{told} {asked}").lower()):
        lemma, sort = _lemma(word)
        if lemma in sorts:
            sorts[lemma].add(sort)
    return {lemma: _replacement(rng, found) for lemma, found in sorts.items()}


def swap(text: str, table: dict[str, dict[str, str]]) -> str:
    """Return a text with slots, its words swapped as `swaps` says."""
    return _swap(text, table)


def another(rng: random.Random, word: str) -> str:
    """Return another word of the same sort and form."""
    _, sort = _lemma(word)
    return _replacement(rng, {sort}).get(sort, word)


def disguise(rng: random.Random, statement: Template, question: Template) -> tuple[Template, Template] | None:
    """Return both with their choices made and their common words swapped; None where none are common."""
    told = statement.expand(rng, lambda slot: "{" + slot + "}")
    asked = question.expand(rng, lambda slot: "{" + slot + "}")
    table = swaps(rng, told, asked)
    if not table:
        return None
    return Template(_swap(told, table)), Template(_swap(asked, table))
