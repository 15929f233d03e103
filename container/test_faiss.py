"""What a Faiss build must do before its wheel is handed over; `build_faiss.sh` runs it.

    python test_faiss.py [--gpu ON|OFF]

Needs faiss and numpy alone. It compares searches with numpy's own arithmetic, so that a miscompiled kernel
or a BLAS of the wrong width shows here and not in answers. GPU searches are `bench/faiss_gpu.py`'s: the
machine that builds need not have one. Exit status 1, with the check's name, when one fails.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 96
VECTORS = 4_000
QUERIES = 50
K = 10
MIN_RECALL = 0.9
GPU_SYMBOLS = ("StandardGpuResources", "GpuIndexFlatIP", "index_cpu_to_gpu", "GpuIndexIVFPQ")

Vectors = NDArray[np.float32]


class CheckFailed(Exception):
    """A check did not hold; the message says which."""


def main() -> int:
    """Run all checks and return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpu", choices=("ON", "OFF"), default="ON")
    arguments = parser.parse_args()
    generator = np.random.default_rng(7)
    vectors = generator.standard_normal((VECTORS, DIMENSIONS), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[:QUERIES] + 0.05 * generator.standard_normal((QUERIES, DIMENSIONS), dtype=np.float32)
    try:
        check_options(gpu=arguments.gpu == "ON")
        check_exact(vectors, queries)
        check_approximate(vectors, queries)
        check_file(vectors, queries)
    except CheckFailed as failure:
        sys.stderr.write(f"test_faiss: {failure}\n")
        return 1
    options = faiss.get_compile_options().strip()
    sys.stdout.write(f"test_faiss: faiss {faiss.__version__}, {options}: all checks hold\n")
    return 0


def check_options(*, gpu: bool) -> None:
    """Compiled with AVX2, and with GPU support where it was asked for."""
    options = faiss.get_compile_options()
    _hold("AVX2" in options.split(), f"not compiled with AVX2: {options}")
    if gpu:
        missing = [name for name in GPU_SYMBOLS if not hasattr(faiss, name)]
        _hold(not missing, f"not compiled for GPUs: no {', '.join(missing)}")
        _hold(faiss.get_num_gpus() >= 0, "get_num_gpus does not answer")


def check_exact(vectors: Vectors, queries: Vectors) -> None:
    """Exact searches by inner product and by distance are numpy's own."""
    products = queries @ vectors.T
    squares = (queries**2).sum(1)[:, None] + (vectors**2).sum(1)[None, :] - 2 * products
    for index, values, order in (
        (faiss.IndexFlatIP(DIMENSIONS), products, -1),
        (faiss.IndexFlatL2(DIMENSIONS), squares, 1),
    ):
        index.add(vectors)
        scores, ids = index.search(queries, K)
        expected = np.sort(order * values, axis=1)[:, :K] * order
        name = type(index).__name__
        _hold(bool(np.allclose(scores, expected, atol=1e-4)), f"{name} has other scores than numpy")
        found = np.take_along_axis(values, ids, axis=1)
        _hold(bool(np.allclose(found, scores, atol=1e-4)), f"{name} names other vectors than it scores")


def check_approximate(vectors: Vectors, queries: Vectors) -> None:
    """The kinds of index that retrieval uses find the vector next to each query."""
    for kind in ("HNSW32", "IVF16,Flat", "SQ8", "IVF16,PQ48x4fs"):
        index = faiss.index_factory(DIMENSIONS, kind, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
        index.add(vectors)
        if kind.startswith("IVF"):
            faiss.extract_index_ivf(index).nprobe = 8
        _, ids = index.search(queries, K)
        recall = float(np.mean([number in row for number, row in enumerate(ids)]))
        _hold(recall >= MIN_RECALL, f"{kind} finds {recall:.0%} of the nearest neighbours")


def check_file(vectors: Vectors, queries: Vectors) -> None:
    """An index written, read and mapped into memory gives the same answers."""
    index = faiss.index_factory(DIMENSIONS, "IVF16,SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    expected = index.search(queries, K)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "index.faiss")
        faiss.write_index(index, path)
        for flags in (0, faiss.IO_FLAG_MMAP):
            scores, ids = faiss.read_index(path, flags).search(queries, K)
            same = np.array_equal(ids, expected[1]) and np.array_equal(scores, expected[0])
            _hold(same, f"an index read with flags {flags} answers otherwise")


def _hold(condition: bool, message: str) -> None:
    if not condition:
        raise CheckFailed(message)


if __name__ == "__main__":
    sys.exit(main())
