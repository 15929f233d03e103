"""Vectors in Faiss: what an index keeps of them, and how it finds the nearest.

Vectors lie in rows, as float32 while there are few, else in 8 bits a dimension where that finds what
float32 finds (else in 16). Up to `EXACT_ROWS` a search compares all of them. Beyond that an inverted
file of product-quantised codes puts up candidates, which are then compared by their vectors. It is
tuned, when it is built, to find 95 % of what an exact search finds (`VectorEntry.recall_at_10`).

The codes have 4 bits for two dimensions, the form that Faiss compares in registers ("fast scan", André
et al., 2017): a hundred bytes a row, and reading all lists of a million rows takes ten milliseconds, so
that even vectors which fall into no clusters are found soon. Not HNSW: built by several threads its graph
differs from run to run, and it holds links of 250 bytes a row in memory. The inner product over unit
vectors is the cosine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import faiss as typed_faiss
import numpy as np
from numpy.typing import NDArray

from openchatkit.ports import Embedding
from openchatkit.retrieval.manifest import IndexUnusable, VectorEntry

FLOAT_ROWS = 20_000
"""Below this, 8 bits would save 20 MB."""
EXACT_ROWS = 100_000
"""Below this, comparing all takes at most some twenty milliseconds on one core."""
MIN_RECALL = 0.95
RECALL_AT = 10
LISTS_PER_ROOT = 2
"""Lists of the inverted file, in times of the root of the number of rows."""
TRAINING_PER_LIST = 64
MAX_TRAINING_ROWS = 262_144
PROBES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
FACTORS = (4, 8, 16, 32, 64)
DIMENSIONS_PER_CODE = 2
BITS_PER_CODE = 4
LISTS_FILE = "lists.faiss"
STORED_BLOCK_ROWS = 16_384
STORED_QUERIES = 200
STORED_RECALL = 0.998
"""More than `MIN_RECALL`: real questions are harder than these, and one hit may be all that is asked for."""
OTHER_SHARE = 0.6
"""How far a made-up question lies towards another vector: real ones lie near none."""
SEED = 20
"""Of the sample that is trained on; k-means has a fixed one of its own."""

faiss: Any = typed_faiss
"""Its stubs know neither the members that SWIG gives nor the arguments that its Python side takes."""
FaissIndex: TypeAlias = Any
Rows = NDArray[np.int64]
Bitmap = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Vectors on their way into an index, in blocks of one size but for the last."""

    rows: int
    dimension: int
    size: int
    """Rows of a block."""
    read: Callable[[int], Embedding]
    """Returns a block by its number."""

    @classmethod
    def of_files(cls, paths: Sequence[Path], rows: int, dimension: int, size: int) -> Blocks:
        """Return vectors that lie in files of float32, a block each."""
        return cls(rows, dimension, size, lambda number: np.load(paths[number], mmap_mode="r"))

    @classmethod
    def of_index(cls, store: FaissIndex, size: int) -> Blocks:
        """Return the vectors of an index that gives them back."""
        rows = int(store.ntotal)

        def read(number: int) -> Embedding:
            start = number * size
            block: Embedding = store.reconstruct_n(start, min(size, rows - start))
            return block

        return cls(rows, int(store.d), size, read)

    def __iter__(self) -> Iterator[Embedding]:
        return map(self.read, range(math.ceil(self.rows / self.size)))

    def sample(self, most: int) -> Embedding:
        """Return vectors of rows all over the index, the same at each call."""
        if not self.rows:
            return np.empty((0, self.dimension), dtype=np.float32)
        if self.rows <= most:
            return np.concatenate([*self])
        chosen = np.sort(np.random.default_rng(SEED).choice(self.rows, most, replace=False))
        sample = np.empty((most, self.dimension), dtype=np.float32)
        for number, block in enumerate(self):
            inside = (chosen // self.size) == number
            sample[inside] = block[chosen[inside] % self.size]
        return sample


@dataclass(frozen=True, slots=True)
class Lists:
    """An inverted file over vectors that lie elsewhere."""

    path: Path
    entry: VectorEntry
    """How to search through it, and what that finds."""


class VectorIndex:
    """Vectors that are searched. One object serves many threads."""

    def __init__(
        self,
        store: FaissIndex,
        lists: FaissIndex | None,
        entry: VectorEntry,
        read: Callable[[Rows], Embedding] | None = None,
    ) -> None:
        """
        Args:
            store: the vectors.
            lists: the inverted file over them; None: all are compared.
            entry: how they are searched.
            read: gives vectors back by row; None: the store does.
        """
        self._store = store
        self._lists = lists
        self._entry = entry
        self._read: Callable[[Rows], Embedding] = read or store.reconstruct_batch

    @classmethod
    def open(cls, store: Path, lists: Path | None, entry: VectorEntry) -> VectorIndex:
        """Map an index's files into memory.

        Raises:
            IndexUnusable: they are damaged.
        """
        try:
            vectors = faiss.read_index(str(store), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise IndexUnusable("damaged vectors") from error
        return cls(vectors, None, entry) if lists is None else cls.over(vectors, lists, entry)

    @classmethod
    def over(
        cls,
        store: FaissIndex,
        lists: Path,
        entry: VectorEntry,
        read: Callable[[Rows], Embedding] | None = None,
    ) -> VectorIndex:
        """Open lists over vectors that are open already; `read` gives these back by row.

        Raises:
            IndexUnusable: they are damaged, or those of other vectors.
        """
        try:
            inverted = faiss.read_index(str(lists), faiss.IO_FLAG_MMAP)
        except RuntimeError as error:
            raise IndexUnusable("damaged lists") from error
        if (inverted.ntotal, inverted.d) != (store.ntotal, store.d):
            raise IndexUnusable("lists of other vectors")
        return cls(store, inverted, entry, read)

    def __len__(self) -> int:
        return int(self._store.ntotal)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._store.d)

    @property
    def store(self) -> FaissIndex:
        """The vectors as Faiss holds them."""
        return self._store

    def vectors(self, rows: Sequence[int] | Rows) -> Embedding:
        """Return the vectors of rows, `(len(rows), dimension)`, as they lie in the index."""
        if not len(rows):
            return np.empty((0, self._store.d), dtype=np.float32)
        return self._read(np.asarray(rows, dtype=np.int64))

    def nearest(
        self, vector: Embedding, k: int, allowed: Bitmap | None = None
    ) -> tuple[NDArray[np.float32], Rows]:
        """Return cosines and rows of the `k` nearest, best first.

        Args:
            vector: `(dimension,)`, of unit length; of another, the cosines are times that.
            k: most rows.
            allowed: rows that may be found, as of `DocumentTable.matching`; None: all.
        """
        k = min(k, len(self))
        if k < 1:
            return np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64)
        if self._lists is None:
            parameters = faiss.SearchParameters(sel=_selector(allowed)) if allowed is not None else None
            scores, rows = self._store.search(vector.reshape(1, -1), k, params=parameters)
            found = rows[0] >= 0
            return scores[0][found], rows[0][found]
        return self._through_lists(vector, k, allowed, self._entry.probes, self._entry.factor)

    def _through_lists(
        self, vector: Embedding, k: int, allowed: Bitmap | None, probes: int, factor: int
    ) -> tuple[NDArray[np.float32], Rows]:
        assert self._lists is not None
        if allowed is not None:
            # A filter that lets few rows pass wants more lists to find as many.
            share = max(1, int(np.bitwise_count(allowed).sum())) / len(self)
            probes = min(self._lists.nlist, math.ceil(probes / share))
        selector = _selector(allowed) if allowed is not None else None
        parameters = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
        _, candidates = self._lists.search(
            vector.reshape(1, -1), min(len(self), k * factor), params=parameters
        )
        rows = candidates[0][candidates[0] >= 0]
        cosines = self.vectors(rows) @ vector
        best = np.argsort(-cosines, kind="stable")[:k]
        return cosines[best], rows[best]


def _selector(allowed: Bitmap) -> FaissIndex:
    return faiss.IDSelectorBitmap(allowed)


def build_vectors(
    blocks: Blocks, queries: Embedding, folder: Path, *, earlier: FaissIndex | None = None
) -> tuple[dict[str, Path], VectorEntry]:
    """Write an index of vectors.

    Args:
        blocks: the vectors.
        queries: `(n, dimension)`, vectors of questions that are like those to come; none of them is in
            the blocks. The index is tuned to them and measured by them; without any, every vector is kept
            as it is and all are compared.
        folder: where the files go.
        earlier: vectors of the index that this one follows: where they are in 8 bits, so are these, by
            the same measure, so that a vector which is taken over stays as it is.

    Returns:
        The files by kind, and what the manifest says about them.
    """
    exact = _exact_nearest(blocks, queries) if len(queries) and blocks.rows > FLOAT_ROWS else None
    store, code, recall = _choose_store(blocks, queries, exact, earlier)
    files = {"vectors": folder / "vectors.faiss"}
    faiss.write_index(store, str(files["vectors"]))
    entry = VectorEntry(kind="exact", code=code, recall_at_10=recall, queries=len(queries) if recall else 0)
    if blocks.rows < EXACT_ROWS or exact is None:
        return files, entry
    listed = _write_lists(blocks, store, queries, exact, entry, folder / LISTS_FILE)
    if listed is None:
        return files, entry
    return files | {"lists": listed.path}, listed.entry


def list_vectors(store: FaissIndex, folder: Path) -> Lists | None:
    """Write lists over the vectors of an index that compares all of them.

    They are tuned to questions that lie between two of its vectors, nearer to the one.

    Args:
        store: gives its vectors back; the metric is the inner product.
        folder: where `LISTS_FILE` goes.

    Returns:
        None where it is too small for lists, or no way through them finds enough.
    """
    if store.ntotal < EXACT_ROWS:
        return None
    blocks = Blocks.of_index(store, STORED_BLOCK_ROWS)
    one, other = np.split(blocks.sample(2 * STORED_QUERIES), 2)
    queries = one + OTHER_SHARE * other
    exact = _exact_nearest(blocks, queries)
    entry = VectorEntry(kind="exact", code="float32", queries=STORED_QUERIES)
    return _write_lists(blocks, store, queries, exact, entry, folder / LISTS_FILE, STORED_RECALL)


def _write_lists(
    blocks: Blocks,
    store: FaissIndex,
    queries: Embedding,
    exact: Rows,
    entry: VectorEntry,
    path: Path,
    least: float = MIN_RECALL,
) -> Lists | None:
    lists = _inverted_file(blocks)
    tuned = _tune(VectorIndex(store, lists, entry), queries, exact, least)
    if tuned is None:  # the vectors are too much alike: then only comparing all will do
        return None
    faiss.write_index(lists, str(path))
    return Lists(path, tuned)


def _exact_nearest(blocks: Blocks, queries: Embedding) -> Rows:
    """Return the rows of the nearest vectors of each query, by float32, block by block."""
    heap = faiss.ResultHeap(len(queries), min(RECALL_AT, blocks.rows), keep_max=True)
    for number, block in enumerate(blocks):
        scores, rows = faiss.knn(
            queries,
            np.ascontiguousarray(block),
            min(RECALL_AT, len(block)),
            metric=faiss.METRIC_INNER_PRODUCT,
        )
        heap.add_result(scores, rows + number * blocks.size)
    heap.finalize()
    found: Rows = heap.I
    return found


def recall(found: Iterable[Rows], exact: Rows) -> float:
    """Return the share of the exact neighbours that were found."""
    shares = [len(np.intersect1d(some, right)) / len(right) for some, right in zip(found, exact, strict=True)]
    return float(np.mean(shares))


def _choose_store(
    blocks: Blocks, queries: Embedding, exact: Rows | None, earlier: FaissIndex | None
) -> tuple[FaissIndex, str, float | None]:
    dimension, metric = blocks.dimension, faiss.METRIC_INNER_PRODUCT
    if blocks.rows <= FLOAT_ROWS or exact is None:
        store = faiss.IndexFlatIP(dimension)
        for block in blocks:
            store.add(np.ascontiguousarray(block))
        return store, "float32", None
    measured = 0.0
    for code, kind in (("sq8", faiss.ScalarQuantizer.QT_8bit), ("float16", faiss.ScalarQuantizer.QT_fp16)):
        store = faiss.IndexScalarQuantizer(dimension, kind, metric)
        if code == "sq8" and isinstance(earlier, faiss.IndexScalarQuantizer) and earlier.sq.qtype == kind:
            faiss.copy_array_to_vector(faiss.vector_to_array(earlier.sq.trained), store.sq.trained)
            store.is_trained = True
        else:
            store.train(blocks.sample(MAX_TRAINING_ROWS))
        for block in blocks:
            store.add(np.ascontiguousarray(block))
        measured = recall(store.search(queries, exact.shape[1])[1], exact)
        if measured >= MIN_RECALL:
            break
    return store, code, round(measured, 4)


def _inverted_file(blocks: Blocks) -> FaissIndex:
    lists = 2 ** round(math.log2(LISTS_PER_ROOT * math.sqrt(blocks.rows)))
    codes = next(
        n for n in range(max(1, blocks.dimension // DIMENSIONS_PER_CODE), 0, -1) if blocks.dimension % n == 0
    )
    quantizer = faiss.IndexFlatIP(blocks.dimension)
    index = faiss.IndexIVFPQFastScan(
        quantizer, blocks.dimension, lists, codes, BITS_PER_CODE, faiss.METRIC_INNER_PRODUCT
    )
    index.own_fields = True
    quantizer.this.disown()
    index.cp.spherical = True
    clustering = _on_gpu(faiss.IndexFlatIP(blocks.dimension))
    if clustering is not None:
        index.clustering_index = clustering
    index.train(blocks.sample(min(MAX_TRAINING_ROWS, TRAINING_PER_LIST * lists)))
    index.clustering_index = None
    for block in blocks:
        index.add(np.ascontiguousarray(block))
    return index


def _on_gpu(index: FaissIndex) -> FaissIndex | None:
    """Return an index on all GPUs that this build of Faiss can use, None where there are none."""
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() < 1:
        return None
    return faiss.index_cpu_to_all_gpus(index)


def _tune(index: VectorIndex, queries: Embedding, exact: Rows, least: float) -> VectorEntry | None:
    """Return the cheapest way through the lists that finds enough, None where none does."""
    lists = index._lists
    assert lists is not None
    most = exact.shape[1]
    for probes in (probes for probes in (*PROBES, lists.nlist) if probes <= lists.nlist):
        for factor in FACTORS:
            found = [index._through_lists(query, most, None, probes, factor)[1] for query in queries]
            measured = recall(found, exact)
            if measured >= least:
                return index._entry.model_copy(
                    update={
                        "kind": "ivf_pq",
                        "recall_at_10": round(measured, 4),
                        "lists": lists.nlist,
                        "probes": probes,
                        "subquantizers": lists.pq.M,
                        "factor": factor,
                    }
                )
    return None
