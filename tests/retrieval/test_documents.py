from __future__ import annotations

import pytest

from openchatkit.retrieval.blocks import Block, Parsed, UnreadableDocument
from openchatkit.retrieval.documents import (
    MAX_SENTENCES,
    Document,
    Sentence,
    document_from,
    embedded_text,
    leans,
)


def test_blocks_become_sentences_under_their_headings() -> None:
    blocks = Block("Orla grew. It hired.", "People", page=3), Block("Revenue: 2025 412; 2024. 3", whole=True)
    document = document_from(Parsed(blocks), path="a/orla-news-2026-01-05.txt", sha256="x")
    assert document.sentences == (
        Sentence("Orla grew.", "People", False, 3),
        Sentence("It hired.", "People", True, 3),
        Sentence("Revenue: 2025 412; 2024. 3", None, False),
    )
    assert (document.title, document.date) == ("orla news 2026 01 05", "2026-01-05")
    assert embedded_text(document.title, document.sentences[0]) == "orla news 2026 01 05. People. Orla grew."


def test_a_document_has_a_bounded_number_of_sentences() -> None:
    blocks = tuple(Block(f"Row {number}", whole=True) for number in range(MAX_SENTENCES + 5))
    assert len(document_from(Parsed(blocks), path="a.csv", sha256="x").sentences) == MAX_SENTENCES


def test_no_text_makes_no_document() -> None:
    with pytest.raises(UnreadableDocument):
        document_from(Parsed((Block(" "),)), path="a.txt", sha256="x")


def test_labels_go_by_several_names() -> None:
    document = Document("a", "x", "t", (), metadata={"issuer": "Orla", "form_type": "10-K"})
    assert [document.label(name) for name in ("company", "kind", "source")] == ["Orla", "10-K", None]


@pytest.mark.parametrize("text", ["It costs $49.", "“The company grew.", "Their plant closed.", "He left."])
def test_words_that_point_back_lean(text: str) -> None:
    assert leans(text)


@pytest.mark.parametrize("text", ["Italy grew.", "Orla grew.", "The board met.", "Theme parks grew."])
def test_other_words_do_not(text: str) -> None:
    assert not leans(text)
