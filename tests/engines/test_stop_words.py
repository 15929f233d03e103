from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from openchatkit.engines.stop_words import StopWordsCriteria

ALPHABET = "<bot>:hum an\né€🙂"
WORDS = st.lists(st.text(ALPHABET, min_size=1, max_size=6), max_size=4)


def cut_at_first_stop_word(text: str, words: list[str]) -> str:
    """Return the text before the stop word that is complete first, the slow and plain way."""
    for end in range(len(text) + 1):
        ending = [word for word in words if text[:end].endswith(word)]
        if ending:
            return text[: end - max(map(len, ending))]
    return text


def pieces(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


@given(text=st.text(ALPHABET, max_size=40), words=WORDS, cuts=st.lists(st.integers(0, 1000), max_size=12))
def test_any_pieces_give_the_text_before_the_first_stop_word(
    text: str, words: list[str], cuts: list[int]
) -> None:
    criteria = StopWordsCriteria(words)
    shown = "".join(criteria.feed(piece) for piece in pieces(text, cuts))
    expected = cut_at_first_stop_word(text, words)
    assert criteria.matched == any(word in text for word in words)
    if criteria.matched:
        assert shown == expected
    else:
        assert shown + criteria.flush() == text


@given(text=st.text(ALPHABET, max_size=20), words=WORDS)
def test_whatever_comes_next_no_part_of_a_stop_word_was_shown(text: str, words: list[str]) -> None:
    criteria = StopWordsCriteria(words)
    shown, seen = "", ""
    for character in text:
        shown, seen = shown + criteria.feed(character), seen + character
        for ending in {word[start:] for word in words for start in range(len(word))}:
            assert cut_at_first_stop_word(seen + ending, words).startswith(shown)


def test_nothing_is_shown_after_a_stop_word() -> None:
    criteria = StopWordsCriteria(("<human>:",))
    assert criteria.feed("Yes.\n<hum") == "Yes.\n"
    assert criteria.feed("an>: and now") == ""
    assert criteria.matched
    assert criteria.feed("more") == ""
    assert criteria.flush() == ""


def test_text_that_only_looks_like_a_stop_word_comes_when_that_is_known() -> None:
    criteria = StopWordsCriteria(("<human>:",))
    assert [criteria.feed(piece) for piece in ("a <", "hu", "ge> b")] == ["a ", "", "<huge> b"]


def test_an_empty_stop_word_stops_nothing() -> None:
    criteria = StopWordsCriteria(("",))
    assert criteria.feed("text") == "text"
    assert not criteria.matched
