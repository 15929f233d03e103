from __future__ import annotations

from pathlib import Path

import pytest

from openchatkit.retrieval.document_table import DocumentTable, Origin, TableWriter
from openchatkit.retrieval.documents import Document, Sentence
from openchatkit.retrieval.lexical import LexicalIndex, coverage, terms
from openchatkit.retrieval.manifest import IndexUnusable


def index_of(folder: Path, *texts: str) -> tuple[LexicalIndex, DocumentTable]:
    writer = TableWriter(folder / "documents.sqlite")
    origin = writer.add_origin(Origin("a", "x"))
    for number, text in enumerate(texts):
        title, _, rest = text.rpartition("|")
        sentences = tuple(Sentence(part, None, number > 0) for number, part in enumerate(rest.split("/")))
        writer.add(origin, Document(str(number), "x", title, sentences))
    writer.close()
    table = DocumentTable(folder / "documents.sqlite")
    LexicalIndex.build(folder / "lexical", [table.lexical_rows(0, table.rows)])
    return LexicalIndex(folder / "lexical"), table


def test_terms_drop_endings_and_words_of_no_weight() -> None:
    assert terms("What did the acquisitions cost?") == terms("acquisition costs")
    assert terms("Corvane's R&D") == {"corvan", "r&d", "research", "development"}
    assert {"2025", "1,284"} <= terms("€1,284 in 2025.")


def test_coverage_is_a_share_and_weighs_rare_words_most(tmp_path: Path) -> None:
    index, table = index_of(tmp_path, "|orla revenue", "|acme revenue", "|ring revenue", "|x")
    rarities = index.rarities("What was the revenue of Orla?")
    shares = [coverage(found, rarities) for found in table.found(range(4))]
    assert shares[0] == pytest.approx(1.0)
    assert 0 < shares[1] == shares[2] < 0.5
    assert shares[3] == 0
    assert [row for row, _ in index.search(rarities, 3)] == [0, 1, 2]


def test_words_of_the_title_and_of_the_sentence_before_count_less(tmp_path: Path) -> None:
    index, table = index_of(tmp_path, "Orla report|Sales rose/It was kelp")
    assert [coverage(found, index.rarities("orla")) for found in table.found([0, 1])] == pytest.approx(
        [0.7, 0.7]
    )
    assert [coverage(found, index.rarities("sales")) for found in table.found([0, 1])] == pytest.approx(
        [1.0, 0.5]
    )


def test_words_that_stand_nowhere_count_for_nothing(tmp_path: Path) -> None:
    index, table = index_of(tmp_path, "|orla")
    assert coverage(table.found([0])[0], index.rarities("zebra orla")) == 1.0
    assert index.rarities("zebra") == {}
    assert coverage(table.found([0])[0], {}) == 0.0
    assert index.search([], 3) == []


def test_no_rows_make_an_index_too(tmp_path: Path) -> None:
    index, _ = index_of(tmp_path)
    assert (index.rows, index.rarities("orla"), index.search(["orla"], 3)) == (0, {}, [])


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        index_of(folder, "|orla revenue", "|acme")
    contents = [
        {path.name: path.read_bytes() for path in (folder / "lexical").iterdir()} for folder in folders
    ]
    assert contents[0] == contents[1]


def test_an_index_is_opened_without_writing_beside_it(tmp_path: Path) -> None:
    index_of(tmp_path, "|orla")
    before = sorted(path.name for path in (tmp_path / "lexical").iterdir())
    LexicalIndex(tmp_path / "lexical").search(["orla"], 1)
    assert sorted(path.name for path in (tmp_path / "lexical").iterdir()) == before


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    index_of(tmp_path, "|orla")
    (tmp_path / "lexical" / "meta.json").write_text("{}")
    with pytest.raises(IndexUnusable):
        LexicalIndex(tmp_path / "lexical")
