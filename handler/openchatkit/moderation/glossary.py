"""Word-for-word English of a text in another language, from `glossary.tsv` and `glossaries/`.

The sentence encoder knows English; a plain gloss ("how can I kill my neighbour without
be-discovered") is enough for it to place a German or Chinese request beside its English twin. It is
no translation: endings and order are ignored. Unknown words stay in Latin letters; in other scripts they
are left out, as the encoder would take them for a heap of single letters.

Languages in Latin letters are told apart by the words that they know of a text, the others by their
script, so that a Russian request inside an English sentence is glossed too. Chinese and Japanese are told
apart by kana, Russian and Ukrainian by words.

`glossary.tsv` has a line a word: English, then the forms in each of `COLUMNS`, separated by commas. The
other languages have a file each (`lexicon.py`): they want stems and phrases.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from openchatkit.moderation.lexicon import Lexicon, folded, toned

COLUMNS = ("de", "fr", "es", "it", "pt", "nl")
LATIN = ("pl", "cs", "tr", "vi", "sv", "ro", "id")
SCRIPTS = {
    "ru": "\u0400-\u052f",
    "uk": "\u0400-\u052f",
    "el": "\u0370-\u03ff\u1f00-\u1fff",
    "he": "\u0591-\u05bd\u05bf-\u05f4",
    "ar": "\u0620-\u065f\u066e-\u06d3\u06d5-\u06ff\u0750-\u077f",
    "hi": "\u0900-\u0963\u0970-\u097f",
    "ko": "\u1100-\u11ff\uac00-\ud7af",
    "ja": "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff々",
    "zh": "\u3400-\u4dbf\u4e00-\u9fff々",
}
"""Languages told by their script, as ranges of characters."""
LANGUAGES = (*COLUMNS, *LATIN, *SCRIPTS)
GLOSSARY = Path(__file__).with_name("glossary.tsv")

_WORD = re.compile(r"[^\W\d_]+")
_IN_SCRIPT = {
    script: re.compile(f"[{script}](?:[{script}\\u0300-\\u036f\u02bc’']*[{script}\\u0300-\\u036f])?")
    for script in SCRIPTS.values()
}
_KANA = re.compile("[\u3040-\u30ff]")
_WITHOUT_BLANKS = ("ja", "zh")
_BLANKS = re.compile(r" +(?=[ .,;:!?。？！，、؟।])")
_NONE: frozenset[str] = frozenset()
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


@dataclass(frozen=True, slots=True)
class _Glossed:
    """The words of a text in one script, and their English: None where it is unknown, "" within a phrase."""

    language: str
    matches: list[re.Match[str]]
    english: list[str | None]

    @property
    def known(self) -> int:
        return sum(word is not None for word in self.english)


def gloss(text: str) -> str:
    """Return `text` with the words in English that a glossary knows; an English one as it is."""
    return glosses(text)[0]


def glosses(text: str) -> tuple[str, str]:
    """Return the gloss, and the text with a gloss of all languages but `COLUMNS`.

    The second is what a reader of letters learns from: it knows examples in plenty in English and in
    the six of `COLUMNS`, of each of the others hardly any.
    """
    text = _gloss_scripts(text)
    language = _latin_language(text)
    if language is None:
        return text, text
    if language in COLUMNS:
        table = _tables()[language]
        return _WORD.sub(lambda match: table.get(folded(match.group()), match.group()), text), text
    matches = list(_WORD.finditer(text))
    lexicon = _lexicon(language)
    english = lexicon.translate([lexicon.fold(match.group()) for match in matches])
    words = [match.group() if word is None else word for match, word in zip(matches, english, strict=True)]
    glossed = _replaced(text, matches, words)
    return glossed, glossed


def _gloss_scripts(text: str) -> str:
    for found in _by_script(text):
        # A gloss changes the places of what follows it, but no other script's words.
        matches = _IN_SCRIPT[SCRIPTS[found.language]].finditer(text)
        glossed = _replaced(text, matches, [f" {word or ''} " for word in found.english])
        text = _BLANKS.sub("", glossed).strip()
    return text


def language_of(text: str) -> str | None:
    """Return which of `LANGUAGES` a text is in; None for English, another one, or too few known words."""
    letters = sum(map(len, _WORD.findall(text)))
    for found in _by_script(text):
        if 2 * sum(len(match.group()) for match in found.matches) > letters:
            return found.language
    return _latin_language(text)


def is_unknown(text: str) -> bool:
    """Return whether most letters of a text are neither Latin nor of words that a glossary knows.

    A language in Latin letters without a glossary (Finnish, Swahili) cannot be told from English here.
    """
    if text.isascii():
        return False
    letters = [letter for letter in text if letter.isalpha()]
    foreign = sum(letter >= "\u0370" and not "\u1e00" <= letter <= "\u1eff" for letter in letters)
    explained = sum(
        sum(map(str.isalpha, match.group()))
        for found in _by_script(text)
        for match, english in zip(found.matches, found.english, strict=True)
        if english is not None
    )
    return 2 * (foreign - explained) > len(letters)


def _by_script(text: str) -> list[_Glossed]:
    """Return what is glossed of the scripts that have a glossary, one language a script."""
    if text.isascii():
        return []
    found: dict[str, _Glossed] = {}
    for language, script in SCRIPTS.items():
        # Kana makes it Japanese, even where most of it is Chinese characters; without kana it is Chinese.
        if language in _WITHOUT_BLANKS and (language == "ja") != bool(_KANA.search(text)):
            continue
        matches = list(_IN_SCRIPT[script].finditer(text))
        glossed = _Glossed(language, matches, _translated(language, [match.group() for match in matches]))
        if glossed.known > (found[script].known if script in found else 0):
            found[script] = glossed
    return list(found.values())


def _translated(language: str, words: list[str]) -> list[str | None]:
    lexicon = _lexicon(language)
    if language in _WITHOUT_BLANKS:
        return [" ".join(lexicon.translate_run(word)) or None for word in words]
    return lexicon.translate([lexicon.fold(word) for word in words])


def _replaced(text: str, matches: Iterable[re.Match[str]], words: list[str]) -> str:
    parts, end = [], 0
    for match, word in zip(matches, words, strict=True):
        parts += [text[end : match.start()], word]
        end = match.end()
    return "".join([*parts, text[end:]])


def _latin_language(text: str) -> str | None:
    words = _WORD.findall(text)
    plain = [folded(word) for word in words]
    tables, index = _tables(), _index()
    known = {language: sum(word in tables[language] for word in plain) for language in COLUMNS}
    known |= dict.fromkeys(LATIN, 0)
    for word, folds in zip(words, plain, strict=True):
        # Single letters are words in Czech and Polish, and what stands behind an apostrophe in English.
        if len(word) > 1:
            for language in index.languages(folds, toned(word)):
                known[language] += 1
    best = max(known, key=known.__getitem__)
    english = sum(word in _ENGLISH for word in plain)
    if known[best] <= english or known[best] < _LEAST_SHARE * len(words):
        return None
    return best


class _Index:
    """Which of `LATIN` know a word, of all their glossaries at once: a text is told in one pass."""

    def __init__(self) -> None:
        self._by_word: dict[str, set[str]] = {}
        for language in LATIN:
            for word in _lexicon(language).words():
                self._by_word.setdefault(word, set()).add(language)
        self._longest = max(map(len, self._by_word))

    def languages(self, *spellings: str) -> set[str]:
        """Return the languages that know one of a word's spellings, whole or by a stem."""
        found: set[str] = set()
        for word in set(spellings):
            found |= self._by_word.get(word, _NONE)
            for length in range(2, min(len(word), self._longest) + 1):
                found |= self._by_word.get(word[:length] + "*", _NONE)
        return found


@functools.cache
def _index() -> _Index:
    return _Index()


@functools.cache
def _lexicon(language: str) -> Lexicon:
    return Lexicon.load(language)


@functools.cache
def _tables() -> dict[str, dict[str, str]]:
    tables: dict[str, dict[str, str]] = {language: {} for language in COLUMNS}
    for line in GLOSSARY.read_text(encoding="utf-8").splitlines():
        english, *columns = line.split("\t")
        for language, forms in zip(COLUMNS, columns, strict=True):
            for form in filter(None, forms.split(",")):
                tables[language].setdefault(folded(form), english)
    return tables
