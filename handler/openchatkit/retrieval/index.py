"""A library's sentences as vectors in Faiss, in memory and in a folder.

The index is exact: inner product over unit vectors, which is the cosine. A sentence is embedded
behind its document's title and its heading, for in a report only those say whose revenue it is.

On disk, no pickle:

    manifest.json              format, encoder, counts, names and SHA-256 of the two files below
    documents-<digest>.jsonl   one document a line: path, sha256, title, date, url, metadata, sentences
    vectors-<digest>.faiss     a vector for each sentence, in the same order

The manifest is replaced last and in one step, so that a folder holds the old index or the new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from openchatkit.ports import Embedding, Encoder
from openchatkit.retrieval.documents import Document, Sentence

FORMAT = 1
SLICE = 256
"""Sentences between two calls of `progress`."""
MANIFEST = "manifest.json"

Progress = Callable[[int, int], None]
"""Called with the sentences that are embedded and those that are to be, 0 of n first."""


class IndexedEncoder(Encoder, Protocol):
    """An encoder that says which one it is: vectors of two encoders do not compare."""

    @property
    def identity(self) -> str:
        """Something that changes with the weights."""
        ...


class IndexUnusable(ValueError):
    """A folder that holds no index for this encoder and format, or a damaged one."""


def embedded_text(document: Document, number: int) -> str:
    """Return what is embedded for a sentence: `title. heading. sentence`."""
    sentence = document.sentences[number]
    parts = (document.title, sentence.place, sentence.text)
    return " ".join(part if part.endswith((".", "?", "!")) else f"{part}." for part in parts if part)


class LibraryIndex:
    """Documents and the vectors of their sentences. Rows number all sentences in their order."""

    def __init__(self, documents: Sequence[Document], vectors: faiss.Index) -> None:
        self.documents = tuple(documents)
        self._vectors = vectors
        self._starts = [0, *accumulate(len(document.sentences) for document in documents)]
        self._by_path = {document.path: number for number, document in enumerate(documents)}
        if vectors.ntotal != self._starts[-1]:
            raise IndexUnusable(f"{vectors.ntotal} vectors for {self._starts[-1]} sentences")

    @classmethod
    def build(
        cls,
        documents: Sequence[Document],
        encoder: Encoder,
        *,
        previous: LibraryIndex | None = None,
        progress: Progress | None = None,
    ) -> LibraryIndex:
        """Embed all sentences that `previous`, an index of the same encoder, does not hold."""
        texts = [embedded_text(doc, n) for doc in documents for n in range(len(doc.sentences))]
        matrix = np.empty((len(texts), encoder.dimension), dtype=np.float32)
        known = previous.rows_by_text() if previous else {}
        new = [row for row, text in enumerate(texts) if text not in known]
        if previous:
            old = [row for row, text in enumerate(texts) if text in known]
            matrix[old] = previous.vectors([known[texts[row]] for row in old])
        # Slices of like length waste the least on padding.
        new.sort(key=lambda row: -len(texts[row]))
        if progress:
            progress(0, len(new))
        for start in range(0, len(new), SLICE):
            rows = new[start : start + SLICE]
            matrix[rows] = encoder.encode([texts[row] for row in rows])
            if progress:
                progress(start + len(rows), len(new))
        vectors = faiss.IndexFlatIP(encoder.dimension)
        vectors.add(matrix)
        return cls(documents, vectors)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def rows_by_text(self) -> dict[str, int]:
        """Return the row of each embedded text."""
        return {
            embedded_text(document, number): start + number
            for document, start in zip(self.documents, self._starts, strict=False)
            for number in range(len(document.sentences))
        }

    def locate(self, row: int) -> tuple[int, int]:
        """Return a row's document and the sentence's number in it."""
        document = bisect_right(self._starts, row) - 1
        return document, row - self._starts[document]

    def row(self, document: int, sentence: int) -> int:
        """Return the row of a document's sentence."""
        return self._starts[document] + sentence

    def find(self, path: str) -> int | None:
        """Return the number of the document with this path."""
        return self._by_path.get(path)

    def nearest(self, vector: Embedding, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the cosines and rows of the `k` nearest sentences, best first."""
        k = min(k, len(self))
        if not k:
            return np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64)
        scores, rows = self._vectors.search(vector.reshape(1, -1), k)
        return scores[0], rows[0]

    def vectors(self, rows: Sequence[int]) -> Embedding:
        """Return the vectors of rows, `(len(rows), dimension)`, as they lie in the index."""
        if not rows:
            return np.empty((0, self._vectors.d), dtype=np.float32)
        return self._vectors.reconstruct_batch(np.asarray(rows, dtype=np.int64))

    def save(self, folder: Path, *, encoder: str) -> None:
        """Write the index into a folder, made where it is missing, in place of the one in there.

        Raises:
            OSError: the folder cannot be written. What it held is as it was.
        """
        folder.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(asdict(doc), ensure_ascii=False) + "\n" for doc in self.documents)
        blobs = {
            "documents": (lines.encode("utf-8", "replace"), "jsonl"),
            "vectors": (faiss.serialize_index(self._vectors).tobytes(), "faiss"),
        }
        files = {}
        for kind, (blob, suffix) in blobs.items():
            digest = hashlib.sha256(blob).hexdigest()
            files[kind] = {"name": f"{kind}-{digest[:16]}.{suffix}", "sha256": digest}
            _write(folder / files[kind]["name"], blob)
        manifest = {
            "format": FORMAT,
            "encoder": encoder,
            "dimension": self._vectors.d,
            "documents": len(self.documents),
            "sentences": len(self),
            "files": files,
        }
        _write(folder / MANIFEST, json.dumps(manifest, indent=2).encode())
        kept = {entry["name"] for entry in files.values()}
        for stale in [*folder.glob("documents-*.jsonl"), *folder.glob("vectors-*.faiss")]:
            if stale.name not in kept:
                stale.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path, *, encoder: str) -> LibraryIndex:
        """Read the index in a folder.

        Raises:
            IndexUnusable: there is none, it is another encoder's or format's, or it is damaged.
        """
        try:
            manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
            if manifest["format"] != FORMAT or manifest["encoder"] != encoder:
                raise IndexUnusable("made by another version or encoder")
            table, blob = (_checked(folder, manifest["files"][kind]) for kind in ("documents", "vectors"))
            documents = [_document(json.loads(line)) for line in table.decode("utf-8").split("\n") if line]
            vectors = faiss.deserialize_index(np.frombuffer(blob, dtype=np.uint8))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise IndexUnusable("no index, or a damaged one") from error
        return cls(documents, vectors)


def _checked(folder: Path, entry: Mapping[str, str]) -> bytes:
    blob = (folder / Path(entry["name"]).name).read_bytes()
    if hashlib.sha256(blob).hexdigest() != entry["sha256"]:
        raise IndexUnusable("a file does not match its checksum")
    return blob


def _document(values: dict[str, Any]) -> Document:
    sentences = tuple(Sentence(**sentence) for sentence in values.pop("sentences"))
    return Document(**values, sentences=sentences)


def _write(path: Path, blob: bytes) -> None:
    """Put a file in place in one step: readers see the old one or the new one, whole."""
    with _temporary(path) as temporary:
        with temporary.open("wb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
