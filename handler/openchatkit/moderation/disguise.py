"""Undoing the usual disguises of a text, so that a judge reads what a human would read.

Pure functions on text. What they undo: compatibility forms (full width, mathematical letters),
zero-width and direction marks, stacked accents, Cyrillic and Greek look-alikes inside Latin words,
digits and signs for letters (`b0mb`), spaced or dotted letters (`b o m b`), drawn-out letters.

What they are not: a translation, a spelling checker, or a decoder of base64 and ciphers.
"""

from __future__ import annotations

import re
import unicodedata

_LOOK_ALIKES = str.maketrans(
    "АВЕЅІЈКМНОРСТХУаеѕіјорсухԁһӏкмтвпгѡΑΒΕΖΗΙΚΜΝΟΡΤΥΧαεικνορτυχωıɡɑ",
    "ABESIJKMHOPCTXYaesijopcyxdhlkmtbnrwABEZHIKMNOPTYXaeiknoptyxwiga",
)
_STACKED = re.compile(r"[\u0300-\u036f]")
_WORD = re.compile(r"[^\W_]+")
_FOREIGN_LETTER = re.compile(r"[\u0370-\u03ff\u0400-\u052fıɡɑ]")
_LATIN_LETTER = re.compile(r"[A-Za-z]")

_DIGIT_LETTERS = str.maketrans("013457@$!|", "oieastasii")
_DISGUISED_WORD = re.compile(r"[\w@$!|]+")
_SPACED = re.compile(r"(?<!\w)[^\W_]([ ._*\-])[^\W_](?:\1[^\W_])+(?!\w)")
_DRAWN_OUT = re.compile(r"([^\W\d_])\1{2,}")
_DOUBLED = re.compile(r"([^\W\d_])\1")
_BLANKS = re.compile(r"\s+")
_NOT_PLAIN = re.compile(r"[^ -~]")


def clean(text: str) -> str:
    """Return `text` on one line in compatibility form, without invisible characters.

    Nothing that a reader would see is lost. Calling it twice changes nothing more.
    """
    if text.isascii():  # what most texts are; nothing below changes it
        return _BLANKS.sub(" ", _visible(text)).strip()
    text = unicodedata.normalize("NFKC", _visible(text))
    # Normalising may compose or bring out further marks; a second pass makes the result a fixed point.
    text = unicodedata.normalize("NFKC", _STACKED.sub("", _visible(text)))
    return _BLANKS.sub(" ", _STACKED.sub("", text)).strip()


def _visible(text: str) -> str:
    return _NOT_PLAIN.sub(_shown, text)


def _shown(match: re.Match[str]) -> str:
    character = match.group()
    category = unicodedata.category(character)
    if category in ("Cc", "Zl", "Zp"):
        return " "
    hidden = category in ("Cf", "Cs", "Co", "Cn") or "\ufe00" <= character <= "\ufe0f"
    return "" if hidden else character


def latinise(word: str) -> str:
    """Return a word with Cyrillic and Greek look-alikes as the Latin letters they resemble."""
    return word.translate(_LOOK_ALIKES)


def unmix(text: str) -> str:
    """Return `text` with look-alikes replaced in words that mix scripts; Russian stays Russian."""

    def one_script(match: re.Match[str]) -> str:
        word = match.group()
        mixed = _FOREIGN_LETTER.search(word) and _LATIN_LETTER.search(word)
        return latinise(word) if mixed else word

    return text if text.isascii() else _WORD.sub(one_script, text)


def unfold(text: str) -> str:
    """Return `text` as a human would read it, all disguises undone that this module knows."""
    # Wide gaps separate the words of a spaced text; they must be seen before blanks are merged.
    words = [_SPACED.sub(_joined, part) for part in re.split(r"[ \t]{2,}", text)]
    text = unmix(clean(" ".join(words)))
    text = _SPACED.sub(_joined, text)
    plain = _DISGUISED_WORD.sub(_letters, text)
    if plain != text:
        # Where one word is written so, `h0w` beside it is no model number either.
        plain = _DISGUISED_WORD.sub(_all_letters, plain)
    return _DRAWN_OUT.sub(r"\1\1", plain)


def readings(text: str) -> list[str]:
    """Return all that a text may say, each reading once: as written, and with disguises undone."""
    plain = unfold(text)
    return list(
        dict.fromkeys((clean(text), plain, _DOUBLED.sub(r"\1", plain) if _drawn_out(text) else plain))
    )


def _drawn_out(text: str) -> bool:
    return _DRAWN_OUT.search(clean(text)) is not None


def _joined(match: re.Match[str]) -> str:
    return match.group().replace(match.group(1), "")


def _letters(match: re.Match[str]) -> str:
    """Return a word with digits and signs as letters, if they can only be meant as such."""
    core = match.group().rstrip("!|")
    ordinary = re.fullmatch(r"[\d$]+[^\W\d_]{1,3}|[^\W\d_]{1,2}\d+[^\W\d_]?", core)
    return match.group() if ordinary else _all_letters(match)


def _all_letters(match: re.Match[str]) -> str:
    word = match.group()
    core = word.rstrip("!|")
    letters = sum(character.isalpha() for character in core)
    inside = re.search(r"[^\W\d_][\d@$!|]+[^\W\d_]|^[@$!|\d][^\W\d_]{2}|^[^\W\d_]0$", core)
    if not letters or not inside:
        return word
    return core.translate(_DIGIT_LETTERS) + word[len(core) :]
