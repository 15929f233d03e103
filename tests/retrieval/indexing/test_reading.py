from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openchatkit.retrieval.blocks import UnreadableDocument
from openchatkit.retrieval.indexing import reading
from openchatkit.retrieval.indexing.reading import DocumentReader, document_of, json_of, read_file
from tests.retrieval.pdfs import REPORT, pdf


def test_a_document_travels_as_json(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("---\ncompany: Orla\n---\nOrla grew. It hired \u2028 50.")
    (document,) = read_file(path, "a.md")
    assert document_of(json.loads(json.dumps(json_of(document)))) == document


def test_the_process_reads_what_this_one_reads(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(REPORT))
    (tmp_path / "b.jsonl").write_text('{"text": "Orla grew.", "title": "🚀"}\n' * 3)
    (tmp_path / "c.html").write_text("<title>Orla</title><p>Orla grew.")
    with DocumentReader() as reader:
        for path in sorted(tmp_path.iterdir()):
            assert list(reader.read(path, path.name)) == list(read_file(path, path.name))
        process = reader._process
        for name in ("gone.pdf", "c.pdf"):
            (tmp_path / "c.pdf").write_bytes(b"nothing")
            with pytest.raises(UnreadableDocument):
                list(reader.read(tmp_path / name, name))
        # A file that says no costs no process.
        assert reader._process is process


def test_a_file_that_unpacks_without_end_is_named(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.parquet"
    # 40 KB that say the same ten megabytes over and over.
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["x y " * 2_500_000]))
    pq.write_table(pa.table({"text": column}), bomb, compression="zstd")
    assert bomb.stat().st_size < 2_000_000
    (tmp_path / "after.jsonl").write_text('{"text": "Orla grew."}\n')
    with DocumentReader(max_memory_bytes=700 * 2**20) as reader:
        with pytest.raises(UnreadableDocument, match=r"memory|more text|broken"):
            list(reader.read(bomb, "bomb.parquet"))
        assert len(list(reader.read(tmp_path / "after.jsonl", "after.jsonl"))) == 1


def test_a_file_with_more_text_than_it_can_hold_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MIN_TEXT_BYTES", 1000)
    monkeypatch.setattr(reading, "MAX_EXPANSION", 0)
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "Orla grew."}\n' * 100)
    with DocumentReader() as reader, pytest.raises(UnreadableDocument, match="more text"):
        list(reader.read(path, "a.jsonl"))


def test_a_file_that_takes_for_ever_or_crashes_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "Orla grew."}\n')
    for program, reason in (
        ("import time; time.sleep(600)", "took more"),
        ("import os; os.abort()", "crashed"),
    ):
        script = tmp_path / "python"
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{program}"\n')
        script.chmod(0o755)
        with monkeypatch.context() as patch, DocumentReader(silence_s=2.0) as reader:
            patch.setattr(sys, "executable", str(script))
            with pytest.raises(UnreadableDocument, match=reason):
                list(reader.read(path, "a.jsonl"))


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", bytes(range(256)) * 7, "binary"),
        ("a.md", b"---\ntitle: x\n---\n", "no text"),
        ("a.html", b"<div>" * 200_000, "nested too deep"),
        ("a.txt", b"x" * 3000, "larger than 2000 bytes"),
    ],
)
def test_what_cannot_be_read_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes, reason: str
) -> None:
    if "larger" in reason:
        monkeypatch.setattr(reading, "MAX_TEXT_BYTES", 2000)
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UnreadableDocument, match=reason):
        list(read_file(path, name))
