from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openchatkit.retrieval import records
from openchatkit.retrieval.blocks import UnreadableDocument
from openchatkit.retrieval.documents import Document

NEWS = [
    {
        "text": "Orla grew.",
        "title": "Orla",
        "date": "2026-01-05",
        "company": "Orla Freight",
        "url": "https://o",
    },
    {"text": "Acme shrank. It closed a plant.", "headline": "Acme", "published": "2026-02-01T10:00:00Z"},
    {"text": "", "title": "nothing"},
]


def read(path: Path) -> list[Document]:
    return list(records.read_records(path, path.name))


def test_each_record_with_a_text_is_a_document(tmp_path: Path) -> None:
    path = tmp_path / "news.jsonl"
    path.write_text("\n".join([json.dumps(record) for record in NEWS] + ["not json", "[1]"]))
    table = tmp_path / "news.parquet"
    pq.write_table(pa.Table.from_pylist([{**NEWS[0]}, {**dict.fromkeys(NEWS[0]), **NEWS[1]}]), table)
    for documents in (read(path), read(table)):
        assert [document.path.rpartition(":")[2] for document in documents] == ["1", "2"]
        first = documents[0]
        assert (first.title, first.date, first.url) == ("Orla", "2026-01-05", "https://o")
        assert (first.label("company"), first.sentences[0].text) == ("Orla Freight", "Orla grew.")
    second = read(path)[1]
    assert (second.title, second.date, len(second.sentences)) == ("Acme", "2026-02-01", 2)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_of_figures_is_one_document_of_rows(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "figures.csv"
    rows = ["item,2025,2024", "Sales,412,388", "Profit,31,29", "Staff,6100,5900"]
    path.write_text("\n".join(rows).replace(",", delimiter))
    (document,) = read(path)
    assert [sentence.text for sentence in document.sentences] == [
        "Sales (item): 2025 412; 2024 388",
        "Profit (item): 2025 31; 2024 29",
        "Staff (item): 2025 6100; 2024 5900",
    ]


def test_a_csv_with_texts_and_quotes(tmp_path: Path) -> None:
    path = tmp_path / "news.csv"
    path.write_text('id,text,company\n7,"Orla ""grew"", they\nsay.",Orla\n8,,x\n', encoding="utf-8-sig")
    (document,) = read(path)
    assert document.sentences[0].text == 'Orla "grew", they say.'
    assert document.metadata == {"id": "7", "company": "Orla"}


def test_a_line_without_end_costs_itself_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_LINE_BYTES", 1000)
    path = tmp_path / "news.jsonl"
    long = json.dumps({"text": "x" * 5000})
    path.write_text("\n".join([json.dumps(NEWS[0]), long, json.dumps(NEWS[1])]))
    assert [document.title for document in read(path)] == ["Orla", "Acme"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b""),
        ("a.jsonl", b"nonsense\n" * 1000),
        ("a.jsonl", b"[" * 1_000_000),
        ("a.jsonl", b'{"text": ""}\n'),
        ("a.csv", b""),
        ("a.csv", bytes(range(256)) * 50),
        ("a.csv", b"," * 5000 + b"\n1\n"),
        ("a.parquet", b"PAR1" + bytes(100) + b"PAR1"),
        ("a.parquet", b""),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnreadableDocument):
        read(path)
