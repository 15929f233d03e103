"""Prove a Faiss build on one GPU: it finds the GPU, has AVX2, and the GPU's searches are the CPU's.

Exact search by inner product and an IVF index, one million normalised vectors of 384 dimensions (the size
of the sentence encoder's), on the CPU and on the GPU, with the time of each. It prints a table, then one
last line of JSON, and ends with 1 where something does not hold. Needs faiss and numpy alone and no network:

    python -m bench.faiss_gpu [--vectors N] [--queries N] [--rounds N] [--cpu]

Scores are compared within `TOLERANCE` (both sides add 384 products in single precision, in another order);
where two vectors score as one within it, either may come first. The IVF index is trained on the CPU and
copied, so that both search the same lists. `--cpu` compares the CPU with numpy where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 384
K = 10
LISTS = 1024
PROBES = 32
TRAINING_VECTORS = 64 * LISTS
SEED = 11
TOLERANCE = 1e-4
IVF_SHARE = 0.99
"""Of the queries: where the last list to be probed is a matter of rounding, the tail of an answer is too."""
NOISE = 0.02
"""Of each component of a query beside the vector that it stands next to: cosine 0.93 between them."""

Vectors = NDArray[np.float32]
Found = tuple[Vectors, NDArray[np.int64]]


@dataclass
class Result:
    """What was measured and what held. Times in milliseconds for all queries at once, medians."""

    faiss: str
    options: str
    gpus: int
    vectors: int
    queries: int
    times_ms: dict[str, float] = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=dict)


def main() -> int:
    """Measure, print and return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu", action="store_true")
    arguments = parser.parse_args()
    result = measure(arguments.vectors, arguments.queries, rounds=arguments.rounds, gpu=not arguments.cpu)
    print(table(result))
    print(
        json.dumps(
            {"bench": "faiss_gpu", "host": platform.processor() or platform.machine(), **asdict(result)}
        )
    )
    return 0 if all(result.checks.values()) else 1


def measure(vectors: int, queries: int, *, rounds: int, gpu: bool) -> Result:
    """Build, search and compare."""
    options = faiss.get_compile_options().strip()
    result = Result(faiss.__version__, options, faiss.get_num_gpus() if gpu else 0, vectors, queries)
    result.checks["AVX2"] = "AVX2" in options.split()
    data, asked = made_up(vectors, queries)
    flat = faiss.IndexFlatIP(DIMENSIONS)
    flat.add(data)
    lists = max(min(LISTS, vectors // 64), 1)
    coarse = faiss.IndexFlatIP(DIMENSIONS)  # the index refers to it and does not own it
    ivf: Any = faiss.IndexIVFFlat(coarse, DIMENSIONS, lists, faiss.METRIC_INNER_PRODUCT)
    ivf.train(data[:TRAINING_VECTORS])
    ivf.add(data)
    ivf.nprobe = min(PROBES, lists)
    searches: dict[str, Callable[[], Found]] = {
        "exact, CPU": lambda: flat.search(asked, K),
        "IVF, CPU": lambda: ivf.search(asked, K),
    }
    if gpu:
        result.checks["one GPU"] = result.gpus == 1
        resources = faiss.StandardGpuResources()
        on_gpu: dict[str, Any] = {
            "exact": faiss.index_cpu_to_gpu(resources, 0, flat),
            "IVF": faiss.index_cpu_to_gpu(resources, 0, ivf),
        }
        on_gpu["IVF"].nprobe = ivf.nprobe
        searches["exact, GPU"] = lambda: on_gpu["exact"].search(asked, K)
        searches["IVF, GPU"] = lambda: on_gpu["IVF"].search(asked, K)
    found = {name: timed(search, rounds, result.times_ms, name) for name, search in searches.items()}
    reference = exact_by_numpy(data, asked)
    result.checks["exact, CPU = numpy"] = same(found["exact, CPU"], reference, data, asked) == 1
    result.checks["IVF, CPU: first is exact's"] = first_agrees(found["IVF, CPU"], reference) >= IVF_SHARE
    if gpu:
        result.checks["exact, GPU = CPU"] = same(found["exact, GPU"], found["exact, CPU"], data, asked) == 1
        result.checks["IVF, GPU = CPU"] = same(found["IVF, GPU"], found["IVF, CPU"], data, asked) >= IVF_SHARE
    return result


def made_up(vectors: int, queries: int) -> tuple[Vectors, Vectors]:
    """Return normalised vectors, and queries that each stand next to one of them. Shapes (n, 384)."""
    generator = np.random.default_rng(SEED)
    data = generator.standard_normal((vectors, DIMENSIONS), dtype=np.float32)
    data /= np.linalg.norm(data, axis=1, keepdims=True)
    asked = data[generator.integers(0, vectors, queries)]
    asked = asked + NOISE * generator.standard_normal(asked.shape, dtype=np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    return data, asked


def timed(search: Callable[[], Found], rounds: int, times_ms: dict[str, float], name: str) -> Found:
    """Search once unmeasured, then `rounds` times, and note the median."""
    found = search()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        found = search()
        taken.append((time.perf_counter() - start) * 1000)
    times_ms[name] = round(statistics.median(taken), 3)
    return found


def exact_by_numpy(data: Vectors, asked: Vectors, block: int = 100_000) -> Found:
    """Return the K best by plain matrix products, block by block of the data."""
    scores = np.full((len(asked), 0), 0, dtype=np.float32)
    ids = np.zeros((len(asked), 0), dtype=np.int64)
    for start in range(0, len(data), block):
        products = asked @ data[start : start + block].T
        numbers = np.broadcast_to(np.arange(start, start + products.shape[1]), products.shape)
        scores, ids = np.hstack([scores, products]), np.hstack([ids, numbers])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
        scores, ids = np.take_along_axis(scores, best, 1), np.take_along_axis(ids, best, 1)
    return scores, ids


def same(one: Found, other: Found, data: Vectors, asked: Vectors) -> float:
    """Return the share of queries for which two searches found the same scores, at vectors that have them."""
    scores, ids = one
    true_scores = np.einsum("qkd,qd->qk", data[np.maximum(ids, 0)], asked)
    ordered = np.sort(ids, axis=1)
    rows = np.isclose(scores, other[0], atol=TOLERANCE).all(axis=1)
    rows &= np.isclose(scores, true_scores, atol=TOLERANCE).all(axis=1)
    rows &= (ids >= 0).all(axis=1) & (np.diff(ordered, axis=1) > 0).all(axis=1)
    return float(rows.mean())


def first_agrees(one: Found, other: Found) -> float:
    """Return the share of queries whose best vector is the same."""
    return float((one[1][:, 0] == other[1][:, 0]).mean())


def table(result: Result) -> str:
    """Return the result for people."""
    head = (
        f"faiss {result.faiss} ({result.options}), {result.gpus} GPUs, "
        f"{result.vectors:,} x {DIMENSIONS}, {result.queries:,} queries, k={K}"
    )
    lines = [
        head,
        "",
        "| search | all queries, ms | queries/s |",
        "|---|---|---|",
    ]
    for name, taken in result.times_ms.items():
        lines.append(f"| {name} | {taken:.1f} | {result.queries / taken * 1000:,.0f} |")
    lines += ["", "| holds | |", "|---|---|"]
    lines += [f"| {name} | {'yes' if held else 'NO'} |" for name, held in result.checks.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
