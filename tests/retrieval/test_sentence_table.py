from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openchatkit.retrieval import sentence_table
from openchatkit.retrieval.sentence_table import SentenceRow, SentenceTable, TableUnusable, convert
from tests.retrieval.wikipedia_corpus import parquet


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100])
def test_every_row_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(sentence_table, "BATCH_ROWS", 8)
    texts = [f"Sentence {number}, ünïcödé 漢字." for number in range(count)]
    titles = [f"Article {number // 3}" for number in range(count)]
    (tmp_path / "in.parquet").write_bytes(parquet(texts, titles, rows_a_group=5))
    seen: list[tuple[int, int]] = []
    assert convert(tmp_path / "in.parquet", tmp_path / "t.arrow", lambda *at: seen.append(at)) == count
    table = SentenceTable(tmp_path / "t.arrow")
    assert [table.row(number) for number in range(len(table))] == [
        SentenceRow(text, title, None) for text, title in zip(texts, titles, strict=True)
    ]
    assert seen[-1] == (count, count)
    for outside in (-1, count):
        with pytest.raises(IndexError):
            table.row(outside)


def test_a_table_without_articles_is_one_article(tmp_path: Path) -> None:
    (tmp_path / "in.parquet").write_bytes(parquet(["a", "b"]))
    convert(tmp_path / "in.parquet", tmp_path / "t.arrow")
    table = SentenceTable(tmp_path / "t.arrow")
    assert table.row(0).same_article(table.row(1))
    assert table.row(0).title is None


def test_articles_of_one_title_are_told_apart_by_their_url() -> None:
    one, other = (SentenceRow("x", "Mercury", url) for url in ("/planet", "/element"))
    assert not one.same_article(other)


@pytest.mark.parametrize(
    ("blob", "says"),
    [(b"PAR1 no parquet at all PAR1", "cannot be read"), (b"", "cannot be read")],
)
def test_a_damaged_file_is_refused(tmp_path: Path, blob: bytes, says: str) -> None:
    (tmp_path / "in.parquet").write_bytes(blob)
    with pytest.raises(TableUnusable, match=says):
        convert(tmp_path / "in.parquet", tmp_path / "t.arrow")
    assert not (tmp_path / "t.arrow").exists()


def test_a_table_without_text_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"number": [1]}), tmp_path / "in.parquet")
    with pytest.raises(TableUnusable, match="text_snippet"):
        convert(tmp_path / "in.parquet", tmp_path / "t.arrow")


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.arrow").write_bytes(b"ARROW1 and nothing else")
    with pytest.raises(TableUnusable):
        SentenceTable(tmp_path / "t.arrow")
    with pytest.raises(TableUnusable):
        SentenceTable(tmp_path / "missing.arrow")


def test_rows_cost_no_memory_for_the_table(tmp_path: Path) -> None:
    texts = [f"{number} " + "x" * 2_000 for number in range(20_000)]
    (tmp_path / "in.parquet").write_bytes(parquet(texts, rows_a_group=4_000))
    convert(tmp_path / "in.parquet", tmp_path / "t.arrow")
    before = pa.total_allocated_bytes()
    table = SentenceTable(tmp_path / "t.arrow")
    assert table.row(19_999).text.startswith("19999 ")
    assert table.row(0).text.startswith("0 ")
    assert pa.total_allocated_bytes() - before < 2**20
    assert (tmp_path / "t.arrow").stat().st_size > 40e6
