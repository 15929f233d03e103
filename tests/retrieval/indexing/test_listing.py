from __future__ import annotations

import os
from pathlib import Path

import pytest

from openchatkit.retrieval.indexing.listing import NOT_READABLE, Item, list_items


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def names(items: list[Item]) -> list[str]:
    return [item.name for item in items]


def test_a_folder_is_listed_in_order_and_the_rest_is_named(tmp_path: Path) -> None:
    write(
        tmp_path, {"b.txt": "B", "a/a.md": "A", "c.html": "C", "d.exe": "D", ".e.txt": "E", ".git/f.txt": "F"}
    )
    items, skipped = list_items([str(tmp_path)])
    assert names(items) == ["a/a.md", "b.txt", "c.html"]
    assert [(file.path, file.reason) for file in skipped] == [("d.exe", NOT_READABLE)]


def test_a_fingerprint_changes_with_the_content_only(tmp_path: Path) -> None:
    before = list_items([str(write(tmp_path, {"a.txt": "A"}))])[0][0]
    os.utime(tmp_path / "a.txt", (1, 1))
    assert list_items([str(tmp_path)])[0][0] == before
    (tmp_path / "a.txt").write_text("B")
    assert list_items([str(tmp_path)])[0][0].fingerprint != before.fingerprint


def test_links_out_of_the_folder_loops_and_pipes_are_skipped(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"secret.txt": "Secret."})
    inside = write(tmp_path / "inside", {"a.txt": "Text.", "sub/b.txt": "More."})
    (inside / "link.txt").symlink_to(outside / "secret.txt")
    (inside / "own.txt").symlink_to(inside / "a.txt")
    (inside / "folder").symlink_to(outside)
    (inside / "sub" / "loop").symlink_to(inside)
    (inside / "self.txt").symlink_to(inside / "self.txt")
    os.mkfifo(inside / "pipe.txt")
    items, skipped = list_items([str(inside)])
    assert names(items) == ["a.txt", "own.txt", "sub/b.txt"]
    assert {file.path for file in skipped} == {"link.txt", "pipe.txt", "self.txt"}


def test_sources_with_the_same_names_stay_apart(tmp_path: Path) -> None:
    one, two = (write(tmp_path / name, {"x.txt": f"{name}."}) for name in ("one", "two"))
    items, _ = list_items([str(one), str(two), str(one / "x.txt"), str(two / "x.txt")])
    assert names(items) == ["x.txt", "two/x.txt", "x.txt/x.txt", "x.txt~2/x.txt"]


def test_a_source_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list_items([str(tmp_path / "nowhere")])
