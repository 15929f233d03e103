from __future__ import annotations

import os
from pathlib import Path

import pytest

from openchatkit.retrieval.documents import leans, read_library


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_a_folder_is_read_in_order_and_the_rest_is_named(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "b.txt": "Second. It leans.",
            "a/a.md": "# Title\n\nFirst.",
            "c.html": "<p>Third.",
            "d.pdf": b"%PDF",
            "e.txt": bytes(range(256)) * 7,
            "empty.md": "---\ntitle: x\n---\n",
            "big.txt": "x" * 2001,
            ".hidden.txt": "No.",
            ".git/x.txt": "No.",
        },
    )
    library = read_library([tmp_path], max_file_bytes=2000)
    assert [document.path for document in library.documents] == ["b.txt", "c.html", "a/a.md"]
    assert [document.title for document in library.documents] == ["b", "c", "Title"]
    assert {file.path: file.reason for file in library.skipped} == {
        "big.txt": "larger than 2000 bytes",
        "d.pdf": "not a .txt, .md or .html file",
        "e.txt": "binary",
        "empty.md": "no text",
    }
    assert [sentence.leans for sentence in library.documents[0].sentences] == [False, True]


def test_links_out_of_the_folder_loops_and_pipes_are_skipped(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"secret.txt": "Secret."})
    inside = write(tmp_path / "inside", {"a.txt": "Text.", "sub/b.txt": "More."})
    (inside / "link.txt").symlink_to(outside / "secret.txt")
    (inside / "own.txt").symlink_to(inside / "a.txt")
    (inside / "folder").symlink_to(outside)
    (inside / "sub" / "loop").symlink_to(inside)
    (inside / "self.txt").symlink_to(inside / "self.txt")
    os.mkfifo(inside / "pipe.txt")
    library = read_library([inside])
    assert [document.path for document in library.documents] == ["a.txt", "own.txt", "sub/b.txt"]
    assert {file.path for file in library.skipped} == {"link.txt", "pipe.txt", "self.txt"}


def test_roots_with_the_same_names_stay_apart(tmp_path: Path) -> None:
    one, two = (write(tmp_path / name, {"x.txt": f"{name}."}) for name in ("one", "two"))
    library = read_library([one, two, one / "x.txt"])
    assert [document.path for document in library.documents] == ["x.txt", "two/x.txt", "x.txt/x.txt"]


def test_a_root_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_library([tmp_path / "nowhere"])


def test_the_date_may_stand_in_the_name(tmp_path: Path) -> None:
    write(tmp_path, {"orla-news-2026-01-05.txt": "Orla grew."})
    document = read_library([tmp_path]).documents[0]
    assert (document.date, document.title) == ("2026-01-05", "orla news 2026 01 05")


@pytest.mark.parametrize("text", ["It costs $49.", "“The company grew.", "Their plant closed.", "He left."])
def test_words_that_point_back_lean(text: str) -> None:
    assert leans(text)


@pytest.mark.parametrize("text", ["Italy grew.", "Orla grew.", "The board met.", "Theme parks grew."])
def test_other_words_do_not(text: str) -> None:
    assert not leans(text)
