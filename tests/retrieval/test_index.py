from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from openchatkit.retrieval.index import LibraryIndex
from openchatkit.retrieval.indexing.builder import build_index
from openchatkit.retrieval.indexing.workers import Tools
from openchatkit.retrieval.manifest import MANIFEST, IndexUnusable, is_index
from tests.retrieval.indexing.hashing import HashingEncoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = tmp_path / "files"
    files.mkdir()
    (files / "orla.md").write_text("# Orla\n\n## Results\n\nRevenue rose\u2028to 5. Profit fell.\n")
    (files / "acme.txt").write_text("Acme makes pumps. It is old.")
    build_index([str(files)], tmp_path / "index", tools=Tools(HashingEncoder))
    return tmp_path / "index"


def test_rows_follow_the_documents(folder: Path) -> None:
    index = LibraryIndex.open(folder, encoder="hashing")
    assert len(index) == 4
    found = index.table.found(range(4))
    assert [(entry.document.path, entry.number) for entry in found] == [
        ("acme.txt", 0),
        ("acme.txt", 1),
        ("orla.md", 0),
        ("orla.md", 1),
    ]
    assert found[1].before == "Acme makes pumps."
    scores, rows = index.nearest(HashingEncoder().encode(["Orla. Results. Profit fell."])[0], 10)
    assert rows[0] == 3
    assert scores[0] > 0.9999
    assert list(scores) == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    "damage",
    ["encoder", "format", "documents", "vectors", "lexical", "gone", "nonsense", "elsewhere", "mixed"],
)
def test_a_damaged_or_foreign_index_is_not_used(folder: Path, tmp_path: Path, damage: str) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    names = list(manifest["files"])
    if damage == "format":
        (folder / MANIFEST).write_text(json.dumps(manifest | {"format": 1}))
    elif damage == "elsewhere":
        manifest["files"]["../../etc/passwd"] = manifest["files"].pop(names[0])
        (folder / MANIFEST).write_text(json.dumps(manifest))
    elif damage == "nonsense":
        (folder / MANIFEST).write_text("[]")
    elif damage == "gone":
        (folder / names[-1]).unlink()
    elif damage == "mixed":
        (tmp_path / "other.txt").write_text("One sentence.")
        build_index([str(tmp_path / "other.txt")], tmp_path / "other", tools=Tools(HashingEncoder))
        other = json.loads((tmp_path / "other" / MANIFEST).read_text())
        name = next(name for name in other["files"] if name.startswith("vectors"))
        (tmp_path / "other" / name).rename(folder / name)
        manifest["files"] = {
            key: value for key, value in manifest["files"].items() if not key.startswith("vectors")
        } | {name: other["files"][name]}
        (folder / MANIFEST).write_text(json.dumps(manifest))
    elif damage in {"documents", "vectors", "lexical"}:
        path = folder / next(name for name in names if name.startswith(damage))
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 255
        path.write_bytes(data)
    with pytest.raises(IndexUnusable):
        LibraryIndex.open(folder, encoder="two" if damage == "encoder" else "hashing")


def test_a_folder_without_an_index_is_none(tmp_path: Path) -> None:
    assert not is_index(tmp_path)
    assert not is_index(tmp_path / "nowhere")


def test_no_documents_give_an_empty_index(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    build_index([str(tmp_path / "files")], tmp_path / "index", tools=Tools(HashingEncoder))
    index = LibraryIndex.open(tmp_path / "index")
    assert len(index) == 0
    assert len(index.nearest(np.zeros(index.manifest.encoder.dimension, dtype=np.float32), 3)[1]) == 0
