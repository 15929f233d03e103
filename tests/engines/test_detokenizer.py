from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from openchatkit.engines.detokenizer import MAX_HELD_TOKENS, REPLACEMENT, IncrementalDetokenizer
from openchatkit.engines.stop_words import StopWordsCriteria
from openchatkit.engines.tokenizer import HuggingFaceTokenizer
from tests.engines.models import tiny_tokenizer

TEXT = st.text("ab é€🙂上<bot>:\n", max_size=30)
CUTS = st.lists(st.integers(0, 1000), max_size=30)


class PiecesOfBytes:
    """A byte-level tokenizer whose tokens are given by the test."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = pieces

    def decode(self, tokens: Sequence[int]) -> str:
        return b"".join(self.pieces[token] for token in tokens).decode("utf-8", errors="replace")


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(text=TEXT, prompt=TEXT, cuts=CUTS)
def test_tokens_cut_anywhere_give_the_text_and_never_half_a_character(
    text: str, prompt: str, cuts: list[int]
) -> None:
    before, after = pieces_of(prompt.encode(), cuts), pieces_of(text.encode(), cuts)
    decoder = PiecesOfBytes([*before, *after])
    detokenizer = IncrementalDetokenizer(decoder, range(len(before)))
    shown = [detokenizer.feed(token) for token in range(len(before), len(before) + len(after))]
    assert not any(REPLACEMENT in piece for piece in shown)
    assert "".join(shown) == text


@given(text=TEXT, cuts=CUTS)
def test_with_stop_words_the_text_is_cut_at_the_first(text: str, cuts: list[int]) -> None:
    pieces = pieces_of(text.encode(), cuts)
    detokenizer = IncrementalDetokenizer(PiecesOfBytes(pieces), ())
    stop = StopWordsCriteria(("<bot>:",))
    shown = "".join(stop.feed(detokenizer.feed(token)) for token in range(len(pieces)))
    assert shown + stop.flush() == text.split("<bot>:")[0]


@given(pieces=st.lists(st.binary(min_size=1, max_size=3), max_size=40))
def test_broken_bytes_are_never_shown_and_never_stop_the_text(pieces: list[bytes]) -> None:
    detokenizer = IncrementalDetokenizer(PiecesOfBytes([*pieces, b"end"]), ())
    shown = "".join(detokenizer.feed(token) for token in range(len(pieces) + 1))
    assert REPLACEMENT not in shown
    assert shown.endswith("nd")


def test_a_run_of_broken_bytes_is_given_up() -> None:
    detokenizer = IncrementalDetokenizer(PiecesOfBytes([b"\x80", b"ok"]), ())
    assert [detokenizer.feed(0) for _ in range(MAX_HELD_TOKENS + 1)] == [""] * (MAX_HELD_TOKENS + 1)
    assert detokenizer.feed(1) == "ok"


def test_the_end_shows_the_whole_characters_only() -> None:
    detokenizer = IncrementalDetokenizer(PiecesOfBytes([b"a\xe2\x82"]), ())
    assert detokenizer.feed(0) == ""
    assert detokenizer.flush() == "a"


@given(text=TEXT, prompt=TEXT)
def test_a_real_tokenizer_gives_the_text_back(text: str, prompt: str) -> None:
    tokenizer = HuggingFaceTokenizer(tiny_tokenizer())
    detokenizer = IncrementalDetokenizer(tokenizer, tokenizer.encode(prompt))
    assert "".join(detokenizer.feed(token) for token in tokenizer.encode(text)) == text
