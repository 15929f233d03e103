"""Faiss files that others made: opened without reading them into memory, and what they hold of a vector."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from openchatkit.ports import Embedding

INVERTED_FILE_KINDS = (b"Iw", b"IxPT")
"""How the files of inverted-file indexes begin, those behind a transformation of the vectors included."""


EXHAUSTIVE_KINDS = (faiss.IndexFlat, faiss.IndexScalarQuantizer)
"""Indexes that keep every vector and compare all of them."""


def map_index(path: Path) -> faiss.Index:
    """Open a Faiss index without reading its vectors into memory.

    Faiss maps inverted lists by one flag and plain codes (flat, scalar quantiser, HNSW) by another, and
    refuses both together; the first bytes of a file name its class.
    """
    with path.open("rb") as file:
        kind = file.read(4)
    flag = faiss.IO_FLAG_MMAP if kind.startswith(INVERTED_FILE_KINDS) else faiss.IO_FLAG_MMAP_IFC
    return faiss.read_index(str(path), flag | faiss.IO_FLAG_READ_ONLY)


def compares_all(index: faiss.Index) -> bool:
    """Return whether a search compares every vector, by inner product, and gives each back."""
    index = faiss.downcast_index(index)
    return isinstance(index, EXHAUSTIVE_KINDS) and index.metric_type == faiss.METRIC_INNER_PRODUCT


def keeps_vectors(index: faiss.Index) -> bool:
    """Return whether the index gives back by row the vectors that were added, at most 8-bit rounded.

    Product quantisers give back something too, but it is too far off to compare sentences by.
    """
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexHNSW):
        return keeps_vectors(index.storage)
    if isinstance(index, faiss.IndexIVFFlat | faiss.IndexIVFScalarQuantizer):
        return not index.direct_map.no()
    return isinstance(index, EXHAUSTIVE_KINDS)


class FlatRows:
    """Single vectors of a flat index's file, read and not mapped. One object serves many threads.

    A row that is touched in a mapping brings sixteen pages into the process: a few hundred questions and
    all of a large file counts as this process's memory, though no question has read more than a thousandth.
    """

    def __init__(self, path: Path, index: faiss.IndexFlat) -> None:
        """
        Args:
            path: the file that the index was read from.
            index: tells the shape.

        Raises:
            ValueError: the file is too small for it.
        """
        self._row_bytes = 4 * index.d
        self._dimension = index.d
        # The vectors are the last thing in the file, whatever this version of Faiss writes before them.
        self._start = path.stat().st_size - index.ntotal * self._row_bytes
        if self._start < 0:
            raise ValueError(f"{path.name} is too small for {index.ntotal} vectors")
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    @classmethod
    def of(cls, path: Path, index: faiss.Index) -> FlatRows | None:
        """Return the rows of an index's file where it keeps them whole and one after the other."""
        flat = faiss.downcast_index(index)
        return cls(path, flat) if isinstance(flat, faiss.IndexFlat) else None

    def read(self, rows: Sequence[int] | NDArray[np.int64]) -> Embedding:
        """Return `(len(rows), dimension)` float32; the rows must exist.

        Raises:
            OSError: the file cannot be read, or has been cut short.
        """
        vectors = np.empty((len(rows), self._dimension), dtype=np.float32)
        for place, row in enumerate(rows):
            at = self._start + int(row) * self._row_bytes
            if os.preadv(self._file, [vectors[place]], at) != self._row_bytes:
                raise OSError("the index's file has been cut short")
        return vectors
