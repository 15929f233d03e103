"""Documents and sentences on disk, in SQLite: read by row, by document and by filter.

A row is a sentence that is searched; its number is that of its vector and of its entry in the index of
words. Sentences that stand in an earlier document as well have no row, but stay in their document. The
file is written once and then only read, by any number of processes and threads; its pages are mapped
into memory as they are needed, so that a table's size costs no memory.
"""

# ruff: noqa: S608 - names of columns and question marks are put together, never values
from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from openchatkit.ports import Filters
from openchatkit.retrieval.documents import Document, Sentence, Skipped, embedded_text
from openchatkit.retrieval.manifest import IndexUnusable

MAPPED_BYTES = 2**40
"""More than any table has: all of it is mapped."""
CACHED_FILTERS = 16
FETCHED_AROUND = 4
"""Sentences on each side that come with one."""
CHUNK = 500
"""Values of one SQL statement."""

_SCHEMA = """
PRAGMA page_size = 8192; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
CREATE TABLE origins (id INTEGER PRIMARY KEY, name TEXT NOT NULL, fingerprint TEXT, problem TEXT, note TEXT);
CREATE TABLE documents (
    id INTEGER PRIMARY KEY, origin INTEGER NOT NULL, path TEXT NOT NULL, sha256 TEXT NOT NULL,
    title TEXT NOT NULL, date TEXT, url TEXT, company TEXT, kind TEXT, source TEXT, metadata TEXT NOT NULL,
    first INTEGER NOT NULL, sentences INTEGER NOT NULL,
    first_row INTEGER NOT NULL, last_row INTEGER NOT NULL);
CREATE TABLE sentences (
    id INTEGER PRIMARY KEY, document INTEGER NOT NULL, row INTEGER, key INTEGER, place TEXT, page INTEGER,
    leans INTEGER NOT NULL, text TEXT NOT NULL);
"""
_INDEXES = """
CREATE UNIQUE INDEX by_path ON documents (path);
CREATE INDEX by_origin ON documents (origin);
CREATE INDEX by_filter ON documents (date, company, kind, source, first_row, last_row);
CREATE UNIQUE INDEX by_row ON sentences (row) WHERE row IS NOT NULL;
CREATE INDEX by_key ON sentences (key) WHERE key IS NOT NULL;
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """A file that was listed: read, or left out and why."""

    name: str
    fingerprint: str | None
    problem: str | None = None
    note: str | None = None
    """What to know of one that was read."""


@dataclass(frozen=True, slots=True)
class Header:
    """A document without its sentences."""

    id: int
    path: str
    title: str
    date: str | None
    url: str | None
    company: str | None
    kind: str | None
    source: str | None
    first: int
    """Number of its first sentence in the table."""
    sentences: int


@dataclass(frozen=True, slots=True)
class Found:
    """A row: its sentence, the number of it in its document, and the document."""

    row: int
    number: int
    sentence: Sentence
    before: str | None
    """The sentence that this one leans on."""
    document: Header


def text_key(text: str) -> int:
    """Return a 64-bit key of an embedded text, the same everywhere."""
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


class TableWriter:
    """Writes a table, documents in their order. Close it to finish."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.executescript(_SCHEMA)
        self._connection.execute("BEGIN")
        self._documents = self._sentences = self._origins = 0
        self.rows = 0
        """Rows so far."""

    def add_origin(self, origin: Origin) -> int:
        """Add a file and return its number."""
        values = self._origins, _utf8(origin.name), origin.fingerprint, origin.problem, origin.note
        self._connection.execute("INSERT INTO origins VALUES (?, ?, ?, ?, ?)", values)
        self._origins += 1
        return self._origins - 1

    def add(self, origin: int, document: Document, dropped: Iterable[int] = ()) -> None:
        """Add a document.

        Args:
            origin: number of its file.
            document: the document.
            dropped: numbers of sentences that get no row.
        """
        without = set(dropped)
        first_row = self.rows
        values = []
        for number, sentence in enumerate(document.sentences):
            row = key = None
            if number not in without:
                row, key = self.rows, text_key(embedded_text(document.title, sentence))
                self.rows += 1
            place = _utf8(sentence.place) if sentence.place else None
            text, leaning = _utf8(sentence.text), int(sentence.leans)
            identity = self._sentences + number
            values.append((identity, self._documents, row, key, place, sentence.page, leaning, text))
        self._connection.executemany("INSERT INTO sentences VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        labels = [
            _utf8(label) if (label := document.label(name)) else None
            for name in ("company", "kind", "source")
        ]
        self._connection.execute(
            f"INSERT INTO documents VALUES ({', '.join('?' * 15)})",
            (
                self._documents,
                origin,
                _utf8(document.path),
                document.sha256,
                _utf8(document.title),
                document.date,
                _utf8(document.url) if document.url else None,
                *labels,
                json.dumps(dict(sorted(document.metadata.items()))),
                self._sentences,
                len(document.sentences),
                first_row,
                self.rows - 1,
            ),
        )
        self._documents += 1
        self._sentences += len(document.sentences)

    def close(self) -> None:
        """Finish the table."""
        self._connection.commit()
        self._connection.executescript(f"{_INDEXES} ANALYZE;")
        self._connection.close()


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


class DocumentTable:
    """A table that is read. One object serves many threads."""

    def __init__(self, path: Path) -> None:
        """Open a table.

        Raises:
            IndexUnusable: the file is none.
        """
        self._lock = threading.Lock()
        try:
            # Immutable: no locks, no journal, works on a read-only file system.
            address = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
            self._connection = sqlite3.connect(address, uri=True, check_same_thread=False)
            weakref.finalize(self, self._connection.close)
            self._connection.execute(f"PRAGMA mmap_size = {MAPPED_BYTES}")
            self._connection.create_function("fold", 1, _fold, deterministic=True)
            self.documents = self._count("SELECT count(*) FROM documents")
            self.sentences = self._count("SELECT coalesce(max(id) + 1, 0) FROM sentences")
            self.rows = self._count("SELECT coalesce(max(row) + 1, 0) FROM sentences")
        except sqlite3.Error as error:
            raise IndexUnusable("a damaged table of documents") from error
        self._filtered = lru_cache(CACHED_FILTERS)(self._filter)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    def _all(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def _count(self, statement: str) -> int:
        return int(self._all(statement)[0][0])

    def origins(self) -> list[Origin]:
        """Return all files that were listed."""
        statement = "SELECT name, fingerprint, problem, note FROM origins ORDER BY id"
        return [Origin(*values) for values in self._all(statement)]

    def skipped(self) -> list[Skipped]:
        """Return the files that were left out or read in part, and why."""
        return [
            Skipped(origin.name, reason)
            for origin in self.origins()
            if (reason := origin.problem or origin.note)
        ]

    def headers(self, *, after: int = -1, limit: int = 1000) -> list[Header]:
        """Return documents in their order, a page of them."""
        statement = f"SELECT {_HEADER} FROM documents d WHERE d.id > ? ORDER BY d.id LIMIT ?"
        return [Header(*values) for values in self._all(statement, (after, limit))]

    def find(self, path: str) -> Header | None:
        """Return the document with this path."""
        found = self._all(f"SELECT {_HEADER} FROM documents d WHERE d.path = ?", (_utf8(path),))
        return Header(*found[0]) if found else None

    def documents_of(self, origin: str) -> Iterator[Document]:
        """Yield the documents of a file, as they were read."""
        statement = (
            "SELECT d.id, d.path, d.sha256, d.title, d.date, d.url, d.metadata, d.first, d.sentences "
            "FROM documents d JOIN origins o ON o.id = d.origin "
            "WHERE o.name = ? AND d.id > ? ORDER BY d.id LIMIT 256"
        )
        last = -1
        while page := self._all(statement, (_utf8(origin), last)):
            for _, path, digest, title, date, url, metadata, first, count in page:
                sentences = tuple(self.slice(first, first + count))
                yield Document(path, digest, title, sentences, date, url, json.loads(metadata))
            last = page[-1][0]

    def slice(self, start: int, stop: int) -> list[Sentence]:
        """Return the sentences `start <= number < stop` of the table."""
        statement = "SELECT text, place, leans, page FROM sentences WHERE id >= ? AND id < ? ORDER BY id"
        return [_sentence(*values) for values in self._all(statement, (start, stop))]

    def rows_of(self, first: int, last: int) -> dict[int, int | None]:
        """Return the row of each sentence `first .. last` of the table, None for one without."""
        statement = "SELECT id, row FROM sentences WHERE id BETWEEN ? AND ?"
        return dict(self._all(statement, (first, last)))

    def texts(self, start: int, stop: int) -> list[tuple[int, str]]:
        """Return key and embedded text of the rows `start <= row < stop`, in their order."""
        statement = (
            "SELECT s.key, d.title, s.text, s.place, s.leans, s.page FROM sentences s "
            "JOIN documents d ON d.id = s.document WHERE s.row >= ? AND s.row < ? ORDER BY s.row"
        )
        found = self._all(statement, (start, stop))
        return [(key, embedded_text(title, _sentence(*rest))) for key, title, *rest in found]

    def rows_by_key(self, keys: Sequence[int]) -> dict[int, int]:
        """Return the row of each embedded text that this table holds, by its key."""
        rows: dict[int, int] = {}
        for start in range(0, len(keys), CHUNK):
            some = keys[start : start + CHUNK]
            marks = ", ".join("?" * len(some))
            rows |= dict(self._all(f"SELECT key, row FROM sentences WHERE key IN ({marks})", some))
        return rows

    def found(self, rows: Sequence[int] | NDArray[np.int64]) -> list[Found]:
        """Return rows with their sentences and documents, in the order asked for."""
        by_row: dict[int, Found] = {}
        for start in range(0, len(rows), CHUNK):
            some = [int(row) for row in rows[start : start + CHUNK]]
            statement = (
                f"SELECT s.row, s.id, s.text, s.place, s.leans, s.page, b.text, {_HEADER} FROM sentences s "
                "JOIN documents d ON d.id = s.document "
                "LEFT JOIN sentences b ON b.id = s.id - 1 AND s.leans AND b.document = s.document "
                f"WHERE s.row IN ({', '.join('?' * len(some))})"
            )
            for row, identity, text, place, leans, page, before, *rest in self._all(statement, some):
                header = Header(*rest)
                sentence = _sentence(text, place, leans, page)
                by_row[row] = Found(row, identity - header.first, sentence, before, header)
        return [by_row[int(row)] for row in rows]

    def lexical_rows(self, start: int, stop: int) -> list[Found]:
        """Return the rows `start <= row < stop`, in their order."""
        return self.found(range(start, min(stop, self.rows)))

    def matching(self, filters: Filters) -> NDArray[np.uint8] | None:
        """Return the rows that pass filters as a bitmap, eight to a byte, lowest first; None: all do."""
        return self._filtered(filters) if filters.any() else None

    def _filter(self, filters: Filters) -> NDArray[np.uint8]:
        conditions: list[str] = []
        values: list[object] = []
        if filters.date_from is not None:
            conditions.append("date >= ?")
            values.append(filters.date_from)
        if filters.date_to is not None:
            conditions.append("date <= ?")
            values.append(filters.date_to)
        for name in ("company", "kind", "source"):
            wanted = getattr(filters, name)
            if wanted:
                conditions.append(f"fold({name}) IN ({', '.join('?' * len(wanted))})")
                values += map(str.casefold, wanted)
        where = " AND ".join(conditions)
        spans = self._all(f"SELECT first_row, last_row FROM documents WHERE {where}", values)
        edges = np.zeros(self.rows + 1, dtype=np.int8)
        if spans:
            bounds = np.array(spans, dtype=np.int64)
            bounds = bounds[bounds[:, 1] >= bounds[:, 0]]
            np.add.at(edges, bounds[:, 0], 1)
            np.add.at(edges, bounds[:, 1] + 1, -1)
        return np.packbits(np.cumsum(edges[:-1], dtype=np.int8).astype(bool), bitorder="little")


_HEADER = "d.id, d.path, d.title, d.date, d.url, d.company, d.kind, d.source, d.first, d.sentences"


def _fold(label: str | None) -> str | None:
    return label.casefold() if label is not None else None


def _sentence(text: str, place: str | None, leans: int, page: int | None) -> Sentence:
    return Sentence(text, place, bool(leans), page)


class DocumentSentences(Sequence[Sentence]):
    """A document's sentences, fetched as they are looked at."""

    def __init__(self, table: DocumentTable, document: Header) -> None:
        self._table = table
        self._document = document
        self._held: dict[int, Sentence] = {}

    def __len__(self) -> int:
        return self._document.sentences

    @overload
    def __getitem__(self, index: int) -> Sentence: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sentence]: ...
    def __getitem__(self, index: int | slice) -> Sentence | Sequence[Sentence]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        if index not in self._held:
            start = max(0, index - FETCHED_AROUND)
            stop = min(len(self), index + FETCHED_AROUND + 1)
            first = self._document.first
            self._held |= dict(enumerate(self._table.slice(first + start, first + stop), start))
        return self._held[index]
