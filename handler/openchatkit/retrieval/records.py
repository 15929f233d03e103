"""Files of many records to documents: .csv, .jsonl and .parquet, one record at a time.

A record with a text column is a document of its own, with title, date, address and what else its
columns say. A file of figures has no text column: it is one document, and each record a row of its
table. Memory does not grow with the file. What runs this bounds its time and memory (`reading`): a
Parquet file of a kilobyte may unpack to a terabyte.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pydantic_core

from openchatkit.retrieval.blocks import Block, Parsed, UnreadableDocument, iso_date, one_line, table_rows
from openchatkit.retrieval.documents import MAX_SENTENCES, Document, document_from
from openchatkit.retrieval.markdown_reader import text_blocks
from openchatkit.retrieval.readers import decode

MAX_LINE_BYTES = 8 * 2**20
"""Of a .jsonl or .csv file. A longer line makes no record."""
MAX_COLUMNS = 512
BATCH_RECORDS = 256

TEXT_COLUMNS = ("text", "content", "body", "passage", "context", "article", "document", "summary")
TITLE_COLUMNS = ("title", "headline", "name", "subject")
DATE_COLUMNS = ("date", "published", "published_at", "publication_date", "filing_date", "filed", "timestamp")
URL_COLUMNS = ("url", "link", "uri")

Record = Mapping[str, Any]


def read_records(path: Path, name: str) -> Iterator[Document]:
    """Yield the documents of a file of records.

    Args:
        path: where the file lies.
        name: what its documents are called after.

    Raises:
        UnreadableDocument: it is broken, binary, or gives no text at all.
    """
    records = _READERS[path.suffix.lower()](path)
    first = next(records, None)
    if first is None:
        raise UnreadableDocument("no records")
    if not {str(key).strip().lower() for key in first} & {*TEXT_COLUMNS}:
        yield _table(name, first, records)
        return
    found = False
    for number, record in enumerate(_chain(first, records), start=1):
        document = _document(record, f"{name}:{number}")
        if document is not None:
            found = True
            yield document
    if not found:
        raise UnreadableDocument("no text")


def _chain(first: Record, rest: Iterator[Record]) -> Iterator[Record]:
    yield first
    yield from rest


def _document(record: Record, path: str) -> Document | None:
    text = _pick(record, TEXT_COLUMNS)
    if text is None:
        return None
    columns = {str(key).strip().lower(): value for key, value in record.items()}
    used = {*TEXT_COLUMNS, *TITLE_COLUMNS, *DATE_COLUMNS, *URL_COLUMNS}
    metadata = {
        key: one_line(_shown(value))
        for key, value in columns.items()
        if key not in used and isinstance(value, str | int | float | datetime.date) and _shown(value)
    }
    title, date = _pick(record, TITLE_COLUMNS), _pick(record, DATE_COLUMNS)
    parsed = Parsed(
        text_blocks(text.splitlines()),
        title=one_line(title) if title else None,
        date=iso_date(date) if date else None,
        url=_pick(record, URL_COLUMNS),
        metadata=metadata,
    )
    try:
        return document_from(
            parsed, path=path, sha256=hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
        )
    except UnreadableDocument:
        return None


def _table(name: str, first: Record, rest: Iterator[Record]) -> Document:
    """Return a file without texts as one document: each record a line with its columns' names."""
    header = [str(key) for key in first]
    blocks: list[Block] = []
    digest = hashlib.sha256()
    for record in _chain(first, rest):
        cells = [_shown(record.get(key)) for key in first]
        digest.update("\x1f".join(cells).encode("utf-8", "replace"))
        blocks += [Block(line, whole=True) for line in list(table_rows([header, cells]))[-1:]]
        # One more than a document may hold, so that the cut is noticed.
        if len(blocks) > MAX_SENTENCES:
            break
    return document_from(Parsed(tuple(blocks)), path=name, sha256=digest.hexdigest())


def _pick(record: Record, names: tuple[str, ...]) -> str | None:
    """Return the first of some columns that says something."""
    columns = {str(key).strip().lower(): key for key in record}
    for name in names:
        value = record.get(columns[name]) if name in columns else None
        if value is not None and not isinstance(value, dict | list) and (shown := _shown(value)):
            return shown
    return None


def _shown(value: object) -> str:
    if value is None or isinstance(value, dict | list | bytes):
        return ""
    return str(value).strip()


def _jsonl(path: Path) -> Iterator[Record]:
    bad = good = 0
    for line in _lines(path):
        if not line.strip():
            continue
        try:
            record = pydantic_core.from_json(line)
        except ValueError:
            record = None
        if isinstance(record, dict):
            good += 1
            yield record
        else:
            bad += 1
            if bad > good + BATCH_RECORDS:
                raise UnreadableDocument("not JSON lines")
    if bad > good:
        raise UnreadableDocument("not JSON lines")


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file that are not longer than they may be."""
    with path.open("rb") as file:
        whole = True
        while line := file.readline(MAX_LINE_BYTES):
            ended = line.endswith(b"\n") or len(line) < MAX_LINE_BYTES
            if whole and ended:
                yield line
            whole = ended


def _csv(path: Path) -> Iterator[Record]:
    csv.field_size_limit(MAX_LINE_BYTES)
    with path.open("rb") as file:
        sample = decode(file.read(65_536))
    try:
        dialect: type[csv.Dialect] = csv.Sniffer().sniff(sample[:8192], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    with path.open("rb") as file:
        encoding = "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        file.seek(0)
        text = io.TextIOWrapper(file, encoding=encoding, errors="replace", newline="")
        rows = csv.reader((line.replace("\0", " ") for line in _bounded(text)), dialect)
        try:
            header = next(rows, [])
            if not header or len(header) > MAX_COLUMNS:
                raise UnreadableDocument("no header, or more columns than any table has")
            for row in rows:
                if any(cell.strip() for cell in row):
                    yield dict(zip(header, row, strict=False))
        except csv.Error as error:
            raise UnreadableDocument("broken CSV") from error


def _bounded(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(MAX_LINE_BYTES):
        if len(line) == MAX_LINE_BYTES and not line.endswith("\n"):
            raise UnreadableDocument(f"a line of more than {MAX_LINE_BYTES} bytes")
        yield line


def _parquet(path: Path) -> Iterator[Record]:
    # Late: half a second and 50 MB that no other format needs.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if file.schema_arrow is None or len(file.schema_arrow) > MAX_COLUMNS:
                raise UnreadableDocument("more columns than any table has")
            for batch in file.iter_batches(batch_size=BATCH_RECORDS):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UnreadableDocument("broken Parquet") from error


_READERS: Mapping[str, Callable[[Path], Iterator[Record]]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".parquet": _parquet,
}
RECORD_SUFFIXES = frozenset(_READERS)
"""Suffixes of files that hold many records, lower case."""
