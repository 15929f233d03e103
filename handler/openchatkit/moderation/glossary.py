"""Word-for-word English of a text in another language, from `glossary.tsv`.

The sentence encoder knows English; a plain gloss ("how can I kill my neighbour without
be-discovered") is enough for it to place a German or Spanish request beside its English twin. It is
no translation: unknown words stay, endings and order are ignored.

`glossary.tsv` has a line a word: English, then the forms in each of `LANGUAGES`, separated by commas.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from pathlib import Path

LANGUAGES = ("de", "fr", "es", "it", "pt", "nl")
GLOSSARY = Path(__file__).with_name("glossary.tsv")

_WORD = re.compile(r"[^\W\d_]+")
_LEAST_SHARE = 0.4
"""Share of a text's words that a language must explain before its glossary is used."""

_ENGLISH_WORDS = (
    "a about after all am an and any are as at be because been but by can could did do does for "
    "from get had has have he her here him his how i if in into is it its just like long make "
    "many me more most much my no not now of off on one or our out over she should so some tell "
    "than that the their them then there they this to too up us was way we were what when where "
    "which who why will with without would you your"
)
_ENGLISH = frozenset(_ENGLISH_WORDS.split())


def gloss(text: str) -> str:
    """Return `text` with its words in English if it is in one of `LANGUAGES`, else as it is."""
    language = language_of(text)
    if language is None:
        return text
    table = _tables()[language]
    return _WORD.sub(lambda match: table.get(_plain(match.group()), match.group()), text)


def language_of(text: str) -> str | None:
    """Return which of `LANGUAGES` a text is in; None for English, another one, or too few known words."""
    words = [_plain(match.group()) for match in _WORD.finditer(text)]
    tables = _tables()
    known = {language: sum(word in tables[language] for word in words) for language in LANGUAGES}
    best = max(LANGUAGES, key=known.__getitem__)
    english = sum(word in _ENGLISH for word in words)
    if known[best] <= english or known[best] < _LEAST_SHARE * len(words):
        return None
    return best


def _plain(word: str) -> str:
    decomposed = unicodedata.normalize("NFD", word.lower())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


@functools.cache
def _tables() -> dict[str, dict[str, str]]:
    tables: dict[str, dict[str, str]] = {language: {} for language in LANGUAGES}
    for line in GLOSSARY.read_text(encoding="utf-8").splitlines():
        english, *columns = line.split("\t")
        for language, forms in zip(LANGUAGES, columns, strict=True):
            for form in filter(None, forms.split(",")):
                tables[language].setdefault(_plain(form), english)
    return tables
