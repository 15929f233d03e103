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
from pathlib import Path

from openchatkit.moderation.lexicon import Lexicon, folded

COLUMNS = ("de", "fr", "es", "it", "pt", "nl")
LATIN = ("pl", "cs", "tr", "vi", "sv", "ro", "id")
SCRIPTS = {
    "ru": "\u0400-\u052f",
    "uk": "\u0400-\u052f",
    "el": "\u0370-\u03ff\u1f00-\u1fff",
    "he": "\u0590-\u05ff",
    "ar": "\u0600-\u06ff\u0750-\u077f",
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
    """Return `text` with the words in English that a glossary knows; an English one as it is."""
    for language in _by_script(text):
        text = _gloss_script(text, language)
    language = _latin_language(text)
    if language is None:
        return text
    if language in COLUMNS:
        table = _tables()[language]
        return _WORD.sub(lambda match: table.get(folded(match.group()), match.group()), text)
    lexicon = _lexicon(language)
    matches = list(_WORD.finditer(text))
    return _replaced(text, matches, [
        match.group() if english is None else english
        for match, english in zip(matches, lexicon.translate([lexicon.fold(m.group()) for m in matches]), strict=True)
    ])


def language_of(text: str) -> str | None:
    """Return which of `LANGUAGES` a text is in; None for English, another one, or too few known words."""
    letters = sum(map(len, _WORD.findall(text)))
    for language in _by_script(text):
        found = _IN_SCRIPT[SCRIPTS[language]].findall(text)
        if 2 * sum(map(len, found)) > letters:
            return language
    return _latin_language(text)


def _by_script(text: str) -> list[str]:
    """Return the languages told by script that have known words in a text."""
    if text.isascii():
        return []
    found: dict[str, tuple[str, float]] = {}
    for language, script in SCRIPTS.items():
        # Kana makes it Japanese, even where most of it is Chinese characters; without kana it is Chinese.
        if language in _WITHOUT_BLANKS and (language == "ja") != bool(_KANA.search(text)):
            continue
        words = _IN_SCRIPT[script].findall(text)
        known = sum(bool(english) for english in _translated(language, words)) if words else 0
        if known > found.get(script, ("", 0))[1]:
            found[script] = (language, known)
    return [language for language, _ in found.values()]


def _translated(language: str, words: list[str]) -> list[str | None]:
    lexicon = _lexicon(language)
    if language in _WITHOUT_BLANKS:
        return [" ".join(lexicon.translate_run(word)[0]) for word in words]
    return lexicon.translate([lexicon.fold(word) for word in words])


def _gloss_script(text: str, language: str) -> str:
    matches = list(_IN_SCRIPT[SCRIPTS[language]].finditer(text))
    english = _translated(language, [match.group() for match in matches])
    glossed = _replaced(text, matches, [f" {word or ''} " for word in english])
    return re.sub(r" +(?=[ .,;:!?。？！，、؟।])", "", glossed).strip()


def _replaced(text: str, matches: list[re.Match[str]], words: list[str]) -> str:
    parts, end = [], 0
    for match, word in zip(matches, words, strict=True):
        parts += [text[end : match.start()], word]
        end = match.end()
    return "".join([*parts, text[end:]])


def _latin_language(text: str) -> str | None:
    words = _WORD.findall(text)
    plain = [folded(word) for word in words]
    tables = _tables()
    known = {language: sum(word in tables[language] for word in plain) for language in COLUMNS}
    for language in LATIN:
        lexicon = _lexicon(language)
        english_words = lexicon.translate([lexicon.fold(word) for word in words])
        # Single letters are words in Czech and Polish, and what stands behind an apostrophe in English.
        known[language] = sum(
            english is not None and len(word) > 1 for word, english in zip(words, english_words, strict=True)
        )
    best = max(known, key=known.__getitem__)
    english = sum(word in _ENGLISH for word in plain)
    if known[best] <= english or known[best] < _LEAST_SHARE * len(words):
        return None
    return best


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
