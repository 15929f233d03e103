from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchatkit.retrieval.splitter import MAX_SENTENCE_CHARACTERS, split_sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["Acme Inc. bought Foo Corp. for $1.5 million.", "The deal closed in the U.S. in March."],
        ["See No. 4 on p. 7.", "It is the best."],
        ["Mr. J. P. Smith left.", "Dr. Ng stayed."],
        ['He said "It works."', "She left."],
        ["Wages rose by 9%.", "Rest after 11 p.m. will be longer."],
        ["Sold to Foo Ltd.", "In 2025 it grew by 3.5%."],
        ["What now?", "Nothing!", "The end … or not?"],
        ["Costs were €12 m. in 2024, i.e. less.", "(Before: €14 m.)", "Good."],
        ["1. Revenue rose.", "2. Profit fell."],
        ["U.S. GAAP applies.", "The U.S. Congress met."],
        ["Is it so?", "No.", "They left."],
        ["The group has a B.V. in Breda.", "Its home is Linz."],
    ],
)
def test_sentences_end_where_a_reader_ends_them(sentences: list[str]) -> None:
    assert split_sentences(" ".join(sentences)) == sentences


def test_line_breaks_are_blanks() -> None:
    assert split_sentences("Revenue\n rose.\r\n\tIt did.") == ["Revenue rose.", "It did."]


@given(st.text(alphabet=st.sampled_from("aBc .!?…\"'”)(,;12\n\t\u00a0No.Inc"), max_size=400) | st.text())
def test_no_character_but_white_space_is_lost(text: str) -> None:
    parts = split_sentences(text)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(part and part == part.strip() and len(part) <= MAX_SENTENCE_CHARACTERS for part in parts)


@pytest.mark.parametrize("piece", ["word, ", "a.", ". ", ".", '."', "A. ", "x"])
def test_time_is_linear_on_hostile_lines(piece: str) -> None:
    start = time.perf_counter()
    split_sentences(piece * (500_000 // len(piece)))
    assert time.perf_counter() - start < 5
