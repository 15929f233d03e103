"""An index directory, opened for searching: documents, vectors and words under one numbering of rows.

`ock index build`, `ock serve --docs` and the endpoint share this one format (`manifest`). An index is
never changed where it lies: a new state is a new set of files and a new manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from openchatkit.ports import Embedding, Encoder, Filters
from openchatkit.retrieval.document_table import DocumentTable
from openchatkit.retrieval.lexical import LexicalIndex
from openchatkit.retrieval.manifest import IndexUnusable, Manifest, check_files, read_manifest
from openchatkit.retrieval.vectors import Rows, VectorIndex


class IndexedEncoder(Encoder, Protocol):
    """An encoder that says which one it is: vectors of two encoders do not compare."""

    @property
    def identity(self) -> str:
        """Something that changes with the weights."""
        ...


@dataclass(frozen=True, slots=True)
class LibraryIndex:
    """An open index. One object serves many threads."""

    folder: Path
    manifest: Manifest
    table: DocumentTable
    words: LexicalIndex
    _vectors: VectorIndex

    @classmethod
    def open(cls, folder: Path, *, encoder: str | None = None, thorough: bool = False) -> LibraryIndex:
        """Open the index in a folder.

        Args:
            folder: an index directory.
            encoder: identity of the encoder that questions come from; None takes any.
            thorough: compare all checksums, which reads the whole index.

        Raises:
            IndexUnusable: there is none, it is another encoder's or format's, or it is damaged.
        """
        manifest = read_manifest(folder)
        if encoder is not None and manifest.encoder.identity != encoder:
            raise IndexUnusable("made by another encoder")
        check_files(folder, manifest, thorough=thorough)
        names = {kind: manifest.file(kind) for kind in ("documents", "vectors", "lists", "lexical")}
        if not (names["documents"] and names["vectors"] and names["lexical"]):
            raise IndexUnusable("a part is missing")
        lists = folder / names["lists"] if names["lists"] else None
        table = DocumentTable(folder / names["documents"])
        words = LexicalIndex(folder / names["lexical"])
        vectors = VectorIndex.open(folder / names["vectors"], lists, manifest.vectors)
        if not table.rows == words.rows == len(vectors) == manifest.counts.rows:
            raise IndexUnusable("its parts do not belong together")
        return cls(folder, manifest, table, words, vectors)

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def vector_index(self) -> VectorIndex:
        """The vectors."""
        return self._vectors

    def nearest(
        self, vector: Embedding, k: int, filters: Filters | None = None
    ) -> tuple[NDArray[np.float32], Rows]:
        """Return the cosines and rows of the `k` nearest sentences that pass the filters, best first."""
        allowed = self.table.matching(filters) if filters is not None else None
        return self._vectors.nearest(vector, k, allowed)

    def vectors(self, rows: Sequence[int] | Rows) -> Embedding:
        """Return the vectors of rows, `(len(rows), dimension)`, as they lie in the index."""
        return self._vectors.vectors(rows)
