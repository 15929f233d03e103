from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openchatkit.retrieval.documents import Sentence
from openchatkit.retrieval.passages import (
    MAX_PASSAGE_CHARACTERS,
    MAX_PASSAGE_SENTENCES,
    Span,
    Window,
    join,
    same,
    widen,
)


def sentences(count: int, *, leaning: tuple[int, ...] = (), size: int = 10) -> list[Sentence]:
    return [Sentence("x" * size, "place", leans=number in leaning) for number in range(count)]


def test_neighbours_join_while_they_are_like_the_hit() -> None:
    alike = {3: 0.9, 2: 0.4, 5: 0.9, 6: 0.8, 7: 0.9}
    assert widen(4, sentences(9), lambda n: alike.get(n, 0.0), Window(3, 0.7)) == (3, 6)


def test_a_gap_ends_a_side() -> None:
    assert widen(2, sentences(5), lambda n: 0.0 if n == 3 else 1.0, Window(2, 0.5)) == (0, 2)


def test_a_leaning_sentence_brings_the_one_before() -> None:
    assert widen(3, sentences(9, leaning=(2, 3)), lambda _: 0.0, Window(1, 0.5)) == (1, 3)


def test_a_passage_stays_under_its_heading() -> None:
    mixed = [Sentence("a.", "one", leans=False), Sentence("It b.", "two", leans=True)]
    assert widen(1, mixed, lambda _: 1.0, Window(2, 0.0)) == (1, 1)


@given(
    hit=st.integers(0, 7),
    leaning=st.sets(st.integers(1, 7)),
    alike=st.lists(st.floats(-1, 1), min_size=8, max_size=8),
    w=st.integers(0, 9),
    size=st.integers(1, 400),
)
def test_a_passage_holds_its_hit_and_keeps_the_limits(
    hit: int, leaning: set[int], alike: list[float], w: int, size: int
) -> None:
    document = sentences(8, leaning=tuple(leaning), size=size)
    first, last = widen(hit, document, alike.__getitem__, Window(w, 0.0))
    assert 0 <= first <= hit <= last <= 7
    assert last - first < MAX_PASSAGE_SENTENCES
    assert first == last or (last - first + 1) * size <= MAX_PASSAGE_CHARACTERS


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 2), st.integers(0, 2)), max_size=10))
def test_no_sentence_is_in_two_spans(hits: list[tuple[int, int, int]]) -> None:
    document = sentences(12)
    spans: list[Span] = []
    for hit, before, after in hits:
        if any(span.first <= hit <= span.last for span in spans):
            continue
        join(spans, Span(0, max(0, hit - before), min(11, hit + after), 1.0), hit, document)
        assert any(span.first <= hit <= span.last for span in spans)
    held = [number for span in spans for number in range(span.first, span.last + 1)]
    assert len(held) == len(set(held))
    assert all(0 <= span.last - span.first < MAX_PASSAGE_SENTENCES + 1 for span in spans)


def test_the_same_words_about_another_year_are_another_passage() -> None:
    one = "Revenue of Orla Freight rose by 5.9% to €412 million in 2025."
    other = "Revenue of Orla Freight rose by 3.1% to €389 million in 2024."
    assert same(one, one.upper())
    assert same(one, f"Before it. {one} After it.")
    assert not same(one, other)
    assert not same("", "")
