from __future__ import annotations

import numpy as np
import pytest

from openchatkit.retrieval.documents import Document, Sentence
from openchatkit.retrieval.indexing.duplicates import (
    PASSAGE_CHARACTERS,
    dropped_sentences,
    find_duplicates,
    passages,
    signatures,
)

LONG = (
    "Orla Freight carried nine million tonnes of grain from the ports of Brittany to Cork and to Dublin in "
    "2025, and its chairman told the owners in April that the ships ordered in Gdansk would come in spring."
)


def document(*texts: str, title: str = "t", place: str | None = None) -> Document:
    return Document(title, "x", title, tuple(Sentence(text, place, False) for text in texts))


def duplicates(*documents: Document) -> list[bool]:
    found: list[bool] = find_duplicates(np.concatenate([signatures(one) for one in documents])).tolist()
    return found


def test_copies_and_near_copies_are_found() -> None:
    assert duplicates(document(LONG), document("Else."), document(LONG), document(LONG.upper() + " So.")) == [
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(("old", "new"), [("2025", "2024"), ("2025", "2025 and 2026")])
def test_other_numbers_say_something_else(old: str, new: str) -> None:
    assert duplicates(document(LONG), document(LONG.replace(old, new))) == [False, False]


def test_a_short_sentence_belongs_to_its_document() -> None:
    one, other = (document("It was founded in 1999.", title=title) for title in ("Orla", "Acme"))
    assert duplicates(one, other) == [False, False]
    assert duplicates(one, one) == [False, True]


def test_texts_that_differ_by_half_are_different() -> None:
    words = LONG.split()
    assert duplicates(document(LONG), document(" ".join(words[: len(words) // 2] + words[::-1]))) == [
        False,
        False,
    ]


def test_passages_end_at_headings_and_at_their_size() -> None:
    sentences = [Sentence("x" * 300, "a", False)] * 4 + [Sentence("y", "b", False)] * 2
    found = passages(Document("d", "x", "t", tuple(sentences)))
    assert found == [range(2), range(2, 4), range(4, 6)]
    assert 2 * 301 <= PASSAGE_CHARACTERS < 3 * 301
    assert dropped_sentences(Document("d", "x", "t", tuple(sentences)), [False, True, True]) == [2, 3, 4, 5]


def test_odd_texts_have_signatures() -> None:
    assert duplicates(document(""), document("\ud800"), document("?!")) == [False, True, True]
    assert find_duplicates(np.empty((0, 66), dtype=np.uint32)).tolist() == []
