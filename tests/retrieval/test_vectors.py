from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from openchatkit.ports import Embedding
from openchatkit.retrieval import vectors
from openchatkit.retrieval.manifest import IndexUnusable, VectorEntry
from openchatkit.retrieval.vectors import Blocks, VectorIndex, build_vectors, recall

DIMENSION = 24
BLOCK = 500


def topics(count: int, seed: int) -> Embedding:
    """Unit vectors around forty centres."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((40, DIMENSION))
    found = centres[random.integers(0, 40, count)] + 0.5 * random.standard_normal((count, DIMENSION))
    unit: Embedding = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


def blocks_of(rows: Embedding, folder: Path) -> Blocks:
    paths = []
    for number, start in enumerate(range(0, len(rows), BLOCK)):
        paths.append(folder / f"{number}.npy")
        np.save(paths[-1], rows[start : start + BLOCK])
    return Blocks.of_files(paths, len(rows), DIMENSION, BLOCK)


def build(rows: Embedding, queries: Embedding, folder: Path) -> tuple[VectorIndex, VectorEntry]:
    files, entry = build_vectors(blocks_of(rows, folder), queries, folder)
    return VectorIndex.open(files["vectors"], files.get("lists"), entry), entry


@pytest.fixture
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "FLOAT_ROWS", 1000)
    monkeypatch.setattr(vectors, "EXACT_ROWS", 2500)


def exact(rows: Embedding, queries: Embedding, k: int = 10) -> list[np.ndarray]:
    return [np.argsort(-(rows @ query), kind="stable")[:k] for query in queries]


@pytest.mark.usefixtures("small_sizes")
@pytest.mark.parametrize(
    ("count", "kind", "code"), [(900, "exact", "float32"), (2000, "exact", "sq8"), (6000, "ivf_pq", "sq8")]
)
def test_the_kind_follows_the_size_and_finds_enough(tmp_path: Path, count: int, kind: str, code: str) -> None:
    rows, queries = topics(count, 1), topics(50, 2)
    index, entry = build(rows, queries, tmp_path)
    assert (entry.kind, entry.code, len(index)) == (kind, code, count)
    later = topics(50, 3)
    found = [index.nearest(query, 10)[1] for query in later]
    assert recall(found, np.array(exact(rows, later))) >= (1.0 if code == "float32" else 0.9)
    assert entry.recall_at_10 is None if code == "float32" else (entry.recall_at_10 or 0) >= 0.95
    np.testing.assert_allclose(index.vectors([0, count - 1]), rows[[0, count - 1]], atol=0.02)
    scores, _ = index.nearest(later[0], 10)
    assert list(scores) == sorted(scores, reverse=True)


@pytest.mark.usefixtures("small_sizes")
def test_the_same_vectors_give_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        build(topics(3000, 1), topics(20, 2), tmp_path / name)
        contents.append([path.read_bytes() for path in sorted((tmp_path / name).glob("*.faiss"))])
    assert len(contents[0]) == 2
    assert contents[0] == contents[1]


@pytest.mark.usefixtures("small_sizes")
@pytest.mark.parametrize("count", [900, 2000, 6000])
def test_a_filter_lets_only_its_rows_pass(tmp_path: Path, count: int) -> None:
    rows, queries = topics(count, 1), topics(20, 2)
    index, _ = build(rows, queries, tmp_path)
    passing = np.zeros(count, dtype=bool)
    passing[100:140] = True
    found = index.nearest(queries[0], 10, np.packbits(passing, bitorder="little"))[1]
    assert len(found) == 10
    right = 100 + np.argsort(-(rows[100:140] @ queries[0]))[:10]
    assert len(np.intersect1d(found, right)) >= 9
    assert len(index.nearest(queries[0], 10, np.zeros((count + 7) // 8, dtype=np.uint8))[1]) == 0


def test_vectors_that_8_bits_blur_are_kept_in_16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "FLOAT_ROWS", 100)
    # Two outliers stretch the range of every dimension; all the others fall into one step of it.
    rows = topics(1000, 1) * np.float32(0.001)
    rows[0], rows[1] = 1.0, -1.0
    queries = topics(50, 2)
    _, entry = build(rows, queries, tmp_path)
    assert entry.code == "float16"
    assert (entry.recall_at_10 or 0) >= 0.95


@pytest.mark.usefixtures("small_sizes")
def test_vectors_that_are_taken_over_stay_as_they_are(tmp_path: Path) -> None:
    rows, queries = topics(2000, 1), topics(20, 2)
    first, _ = build(rows, queries, tmp_path)
    held = first.vectors(range(2000))
    more = blocks_of(np.concatenate([held, topics(300, 5)]), tmp_path)
    (tmp_path / "next").mkdir()
    files, entry = build_vectors(more, queries, tmp_path / "next", earlier=first.store)
    second = VectorIndex.open(files["vectors"], None, entry)
    np.testing.assert_array_equal(second.vectors(range(2000)), held)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "vectors.faiss").write_bytes(b"nothing")
    with pytest.raises(IndexUnusable):
        VectorIndex.open(tmp_path / "vectors.faiss", None, VectorEntry(kind="exact", code="float32"))
