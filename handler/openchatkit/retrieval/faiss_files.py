"""Faiss files that others made: opened without reading them into memory, and what they hold of a vector."""

from __future__ import annotations

from pathlib import Path

import faiss

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
