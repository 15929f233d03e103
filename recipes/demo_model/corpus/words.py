"""Words: nouns, adjectives and verbs with words of like meaning, their forms, and invented names.

The lists are written by hand; a share of all words is made up of syllables, so that a model has to
copy words rather than know them. Synonyms are rough: good enough to be asked for, not a dictionary.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from recipes.demo_model.corpus.template import read_lines
from recipes.demo_model.corpus.tongues import foreign

_VOWELS = "aeiou"
_ONSETS = [
    "b",
    "bl",
    "br",
    "c",
    "ch",
    "cl",
    "cr",
    "d",
    "dr",
    "f",
    "fl",
    "fr",
    "g",
    "gl",
    "gr",
    "h",
    "j",
    "k",
    "kl",
    "kn",
    "l",
    "m",
    "n",
    "p",
    "pl",
    "pr",
    "qu",
    "r",
    "s",
    "sc",
    "sh",
    "sk",
    "sl",
    "sm",
    "sn",
    "sp",
    "st",
    "str",
    "t",
    "th",
    "tr",
    "v",
    "w",
    "y",
    "z",
]
_NUCLEI = [
    "a",
    "a",
    "a",
    "e",
    "e",
    "e",
    "i",
    "i",
    "o",
    "o",
    "u",
    "u",
    "ai",
    "au",
    "ea",
    "ee",
    "ei",
    "ie",
    "oa",
    "oo",
    "ou",
    "ä",
    "ö",
    "ü",
    "é",
    "å",
]
_CODAS = [
    "b",
    "ck",
    "d",
    "ff",
    "g",
    "l",
    "ld",
    "lk",
    "ll",
    "m",
    "mp",
    "n",
    "nd",
    "ng",
    "nk",
    "nt",
    "p",
    "r",
    "rd",
    "rk",
    "rl",
    "rn",
    "rt",
    "s",
    "ss",
    "st",
    "t",
    "th",
    "x",
]


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb's three forms."""

    base: str
    past: str
    participle: str


def plural(noun: str) -> str:
    """Return the regular plural of `noun`."""
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in _VOWELS:
        return noun[:-1] + "ies"
    if noun.endswith("man"):
        return noun[:-3] + "men"
    return noun + "s"


def third_person(base: str) -> str:
    """Return the form for he, she and it."""
    return plural(base)


def gerund(base: str) -> str:
    """Return the -ing form."""
    if base.endswith("e") and not base.endswith(("ee", "ye")):
        return base[:-1] + "ing"
    short = len(base) <= 4 and base[-1] not in "aeiouwxy" and base[-2] in _VOWELS
    if short and base[-3:-2] not in _VOWELS:
        return base + base[-1] + "ing"
    return base + "ing"


def _verb(text: str) -> Verb:
    parts = text.split("/")
    if len(parts) == 3:
        return Verb(*parts)
    if text.endswith("e"):
        return Verb(text, text + "d", text + "d")
    if text.endswith("y") and text[-2] not in _VOWELS:
        return Verb(text, text[:-1] + "ied", text[:-1] + "ied")
    return Verb(text, text + "ed", text + "ed")


def _clusters(name: str) -> list[tuple[str, ...]]:
    return [tuple(line.split()) for line in read_lines(name)]


NOUNS = _clusters("nouns.txt")
ADJECTIVES = _clusters("adjectives.txt")
VERBS = [tuple(_verb(word) for word in line) for line in _clusters("verbs.txt")]


@cache
def name_lists() -> dict[str, list[str]]:
    """Return the lists of `names.txt` by their first word."""
    lists: dict[str, list[str]] = {}
    for line in read_lines("names.txt"):
        key, *words = line.split()
        lists.setdefault(key, []).extend(word.replace("-", " ") if key == "place" else word for word in words)
    return lists


@cache
def thesaurus() -> dict[str, tuple[str, ...]]:
    """Return every word form that has synonyms with all forms that may stand in its place."""
    found: dict[str, set[str]] = {}

    def enter(forms: list[str]) -> None:
        for form in forms:
            found.setdefault(form, set()).update(other for other in forms if other != form)

    for words in NOUNS:
        enter(list(words))
        enter([plural(word) for word in words])
    for words in ADJECTIVES:
        enter(list(words))
    for verbs in VERBS:
        for form in ("base", "past", "participle"):
            enter([getattr(verb, form) for verb in verbs])
        enter([third_person(verb.base) for verb in verbs])
        enter([gerund(verb.base) for verb in verbs])
    return {word: tuple(sorted(others)) for word, others in found.items() if others}


GRAMMAR_WORDS = frozenset(
    [
        "about",
        "after",
        "because",
        "been",
        "before",
        "between",
        "does",
        "each",
        "every",
        "from",
        "have",
        "high",
        "into",
        "large",
        "long",
        "many",
        "more",
        "most",
        "much",
        "only",
        "other",
        "over",
        "since",
        "than",
        "that",
        "their",
        "then",
        "there",
        "they",
        "this",
        "under",
        "until",
        "were",
        "what",
        "when",
        "where",
        "which",
        "whom",
        "whose",
        "will",
        "with",
        "would",
    ]
)
"""Words that carry a question's grammar: never swapped for others."""


def reword(rng: random.Random, text: str, rate: float) -> str:
    """Return `text` with some words replaced by a synonym."""
    known = thesaurus()
    words = text.split(" ")
    for at, word in enumerate(words):
        bare = word.rstrip(".,?!")
        if bare in known and rng.random() < rate:
            words[at] = rng.choice(known[bare]) + word[len(bare) :]
    return " ".join(words)


def pseudo_word(rng: random.Random, syllables: int = 0) -> str:
    """Return a word that means nothing."""
    count = syllables or rng.choice((1, 2, 2, 2, 3, 3))
    text = ""
    for _ in range(count):
        text += rng.choice(_ONSETS) + rng.choice(_NUCLEI)
    return text + rng.choice(_CODAS) if rng.random() < 0.7 else text


def noun(rng: random.Random) -> str:
    """Return a singular noun, sometimes an invented one."""
    if rng.random() < 0.12:
        return pseudo_word(rng)
    return rng.choice(rng.choice(NOUNS))


def adjective(rng: random.Random) -> str:
    """Return an adjective, sometimes an invented one."""
    if rng.random() < 0.08:
        return pseudo_word(rng) + rng.choice(("ic", "al", "ish", "ous", "y", "ed"))
    return rng.choice(rng.choice(ADJECTIVES))


def person(rng: random.Random) -> str:
    """Return the full name of somebody who does not exist."""
    lists = name_lists()
    first, last = rng.choice(lists["first"]), rng.choice(lists["last"])
    if rng.random() < 0.35:
        last = coined(rng)
    if rng.random() < 0.2:
        first = foreign(rng)
    form = rng.random()
    if form < 0.06:
        return f"{first} {rng.choice('ABCDEFGHJKLMNPRSTW')}. {last}"
    if form < 0.1:
        return f"{rng.choice(('Dr', 'Dr.', 'Prof.', 'Ms', 'Mr.', 'Sir', 'Mrs'))} {first} {last}"
    if form < 0.15:
        return f"{first} {rng.choice(('van der', 'de la', 'von', 'bin', 'de', 'van'))} {last}"
    if form < 0.19:
        return f"{first} {last}-{rng.choice(lists['last'])}"
    return f"{first} {last}"


def coined(rng: random.Random) -> str:
    """Return a capitalised name made of syllables."""
    lists = name_lists()
    form = rng.random()
    if form < 0.4:
        return foreign(rng)
    if form < 0.7:
        return rng.choice(lists["prefix"]) + rng.choice(lists["suffix"])
    if form < 0.78:
        return rng.choice(lists["prefix"]) + rng.choice("aeiou") + rng.choice(lists["suffix"])
    return pseudo_word(rng, rng.choice((1, 2, 2, 3))).capitalize()


def place(rng: random.Random) -> str:
    """Return a town, real or invented."""
    form = rng.random()
    if form < 0.6:
        return rng.choice(name_lists()["place"])
    head = rng.choice(
        ("", "", "", "", "Saint ", "New ", "Upper ", "Port ", "Bad ", "St. ", "Lower ", "Mount ")
    )
    return head + coined(rng)


def country(rng: random.Random) -> str:
    """Return a country or a part of the world."""
    form = rng.random()
    if form < 0.12:
        return rng.choice(
            ("Europe", "Asia", "Africa", "North America", "Latin America", "the Nordic countries")
        )
    if form < 0.2:
        return rng.choice(
            ("the U.S.", "the United Kingdom", "the Netherlands", "the United States", "the UK")
        )
    return rng.choice(name_lists()["country"])


def company(rng: random.Random) -> tuple[str, str]:
    """Return the name of a company that does not exist, in full and in short."""
    lists = name_lists()
    head = coined(rng)
    form = rng.random()
    if form < 0.12:
        head = rng.choice(lists["last"])
    elif form < 0.18:
        head = f"{rng.choice(lists['last'])} & {rng.choice(lists['last'])}"
    elif form < 0.24:
        head = "".join(rng.choice("ABCDEFGHIKLMNOPRSTUVWZ") for _ in range(rng.choice((2, 3, 3))))
    elif form < 0.34:
        head = rng.choice(lists["place"])
    elif form < 0.42:
        head = rng.choice(rng.choice(ADJECTIVES)).capitalize()
    short = head
    if rng.random() < 0.75:
        tail = noun(rng).capitalize() if rng.random() < 0.15 else rng.choice(lists["corpword"])
        short = f"{head} {tail}"
    full = f"{short} {rng.choice(lists['legal'])}" if rng.random() < 0.35 else short
    return full, short if rng.random() < 0.7 else (head if len(head) > 3 else short)
