from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from openchatkit.ports import Embedding
from openchatkit.retrieval.documents import Document, read_library
from openchatkit.retrieval.encoder import SentenceEncoder
from openchatkit.retrieval.index import MANIFEST, IndexUnusable, LibraryIndex, embedded_text


class CountingEncoder:
    """The real encoder, and what it was asked for."""

    def __init__(self, encoder: SentenceEncoder, identity: str = "one") -> None:
        self._encoder = encoder
        self.identity = identity
        self.asked: list[str] = []

    @property
    def dimension(self) -> int:
        return self._encoder.dimension

    def encode(self, texts: Sequence[str]) -> Embedding:
        self.asked += texts
        return self._encoder.encode(texts)


@pytest.fixture
def documents(tmp_path: Path) -> tuple[Document, ...]:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "orla.md").write_text("# Orla\n\n## Results\n\nRevenue rose\u2028to 5. Profit fell.\n")
    (folder / "acme.txt").write_text("Acme makes pumps. It is old.")
    return read_library([folder]).documents


def test_rows_follow_the_documents(documents: tuple[Document, ...], encoder: SentenceEncoder) -> None:
    index = LibraryIndex.build(documents, encoder)
    assert len(index) == 4
    assert [index.locate(row) for row in range(4)] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [index.row(*index.locate(row)) for row in range(4)] == [0, 1, 2, 3]
    text = embedded_text(documents[1], 1)
    assert text == "Orla. Results. Profit fell."
    scores, rows = index.nearest(encoder.encode([text])[0], 10)
    assert rows[0] == 3
    assert scores[0] > 0.9999
    assert list(scores) == sorted(scores, reverse=True)


def test_an_index_comes_back_from_its_folder(
    documents: tuple[Document, ...], encoder: SentenceEncoder, tmp_path: Path
) -> None:
    index = LibraryIndex.build(documents, encoder)
    index.save(tmp_path / "cache", encoder="one")
    again = LibraryIndex.load(tmp_path / "cache", encoder="one")
    assert again.documents == index.documents
    np.testing.assert_array_equal(again.vectors(range(4)), index.vectors(range(4)))
    assert not any(path.suffix in {".pkl", ".pickle"} for path in (tmp_path / "cache").iterdir())


def test_only_new_sentences_are_embedded(
    documents: tuple[Document, ...], encoder: SentenceEncoder, tmp_path: Path
) -> None:
    first = LibraryIndex.build(documents, encoder)
    (tmp_path / "files" / "acme.txt").write_text("Acme makes pumps. It is new.")
    (tmp_path / "files" / "orla.md").unlink()
    changed = read_library([tmp_path / "files"]).documents
    counting = CountingEncoder(encoder)
    bars: list[tuple[int, int]] = []
    index = LibraryIndex.build(
        changed, counting, previous=first, progress=lambda *bar: bars.append((bar[0], bar[1]))
    )
    assert counting.asked == ["acme. It is new."]
    assert bars == [(0, 1), (1, 1)]
    fresh = LibraryIndex.build(changed, encoder)
    np.testing.assert_allclose(index.vectors(range(2)), fresh.vectors(range(2)), atol=1e-5)


def test_saving_leaves_nothing_of_the_old_index(
    documents: tuple[Document, ...], encoder: SentenceEncoder, tmp_path: Path
) -> None:
    for kept in (documents, documents[:1]):
        LibraryIndex.build(kept, encoder).save(tmp_path / "cache", encoder="one")
    assert len(list((tmp_path / "cache").iterdir())) == 3
    assert len(LibraryIndex.load(tmp_path / "cache", encoder="one").documents) == 1


@pytest.mark.parametrize("damage", ["encoder", "format", "table", "vectors", "gone", "nonsense", "elsewhere"])
def test_a_damaged_or_foreign_index_is_not_used(
    documents: tuple[Document, ...], encoder: SentenceEncoder, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "cache"
    LibraryIndex.build(documents, encoder).save(folder, encoder="one")
    manifest = json.loads((folder / MANIFEST).read_text())
    if damage == "format":
        (folder / MANIFEST).write_text(json.dumps(manifest | {"format": 0}))
    elif damage == "elsewhere":
        manifest["files"]["vectors"]["name"] = "../../etc/passwd"
        (folder / MANIFEST).write_text(json.dumps(manifest))
    elif damage == "nonsense":
        (folder / MANIFEST).write_text("[]")
    elif damage == "gone":
        next(folder.glob("vectors-*")).unlink()
    elif damage in {"table", "vectors"}:
        path = next(folder.glob("documents-*" if damage == "table" else "vectors-*"))
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IndexUnusable):
        LibraryIndex.load(folder, encoder="two" if damage == "encoder" else "one")


def test_no_documents_give_an_empty_index(encoder: SentenceEncoder, tmp_path: Path) -> None:
    index = LibraryIndex.build([], encoder)
    index.save(tmp_path, encoder="one")
    again = LibraryIndex.load(tmp_path, encoder="one")
    assert len(again) == 0
    assert len(again.nearest(np.zeros(encoder.dimension, dtype=np.float32), 3)[1]) == 0
