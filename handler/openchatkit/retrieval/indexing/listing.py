"""What there is to read: files and folders of this machine, prefixes of S3, datasets of Hugging Face.

    items, problems = list_items(["reports/", "s3://bucket/news/", "hf://datasets/owner/name"])

Items come in the order of the sources and, inside one, of their names, so that the same sources give
the same index, and a folder the one that its copy in S3 gives. An item's name is its documents' id: its
path below its source.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from openchatkit.retrieval.documents import Skipped
from openchatkit.retrieval.indexing import remote
from openchatkit.retrieval.indexing.reading import SUFFIXES
from openchatkit.retrieval.manifest import MANIFEST, is_index

NOT_READABLE = "not a kind of file that is read"
HASH_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Item:
    """One file, here or elsewhere, or one index that was built before."""

    name: str
    location: str
    """A path, or an address that `remote` understands."""
    size: int
    """Bytes."""
    fingerprint: str
    """Changes when the content does."""
    index: int | None = None
    """Which of the indexes among the sources holds it, under the name in `location`."""


def list_items(sources: Sequence[str]) -> tuple[list[Item], list[Skipped]]:
    """Return the files of some sources that can be read, and the others with the reason.

    Hidden files and folders are passed over, and so are links that lead out of their folder. A folder
    that holds an index is not listed: its documents are taken over whole (`build_index`).

    Raises:
        FileNotFoundError: a path that does not exist; all else is skipped and named.
        remote.SourceUnusable: an address that cannot be listed.
    """
    items: list[Item] = []
    skipped: list[Skipped] = []
    taken: set[str] = set()
    for source in sources:
        listed = _remote(source) if remote.is_remote(source) else _local(Path(source))
        prefix = _prefix(source)
        for name, item, problem in listed:
            unique = unique_name(name, prefix, taken)
            if problem is None and Path(name).suffix.lower() not in SUFFIXES:
                problem = NOT_READABLE
            if problem is not None or item is None:
                skipped.append(Skipped(unique, problem or NOT_READABLE))
                continue
            taken.add(unique)
            items.append(Item(unique, item.location, item.size, item.fingerprint))
    return items, skipped


@contextlib.contextmanager
def on_disk(item: Item) -> Iterator[Path]:
    """Yield a path where an item's content lies; what was fetched for that goes away afterwards.

    Raises:
        OSError, remote.SourceUnusable: it cannot be had.
    """
    if not remote.is_remote(item.location):
        yield Path(item.location)
        return
    with tempfile.TemporaryDirectory(prefix="openchatkit-fetch-") as folder:
        yield remote.fetch(item.location, Path(folder))


def _prefix(source: str) -> str:
    return source.rstrip("/").rpartition("/")[2] if remote.is_remote(source) else Path(source).resolve().name


def _remote(source: str) -> Iterator[tuple[str, Item, str | None]]:
    for found in remote.list_files(source):
        yield found.name, Item(found.name, found.location, found.size, found.fingerprint), None


def _local(root: Path) -> Iterator[tuple[str, Item | None, str | None]]:
    if not root.exists():
        raise FileNotFoundError(f"no such file or folder: {root}")
    found = [(_name(path, root), path, problem) for path, problem in _files(root)]
    for name, path, problem in sorted(found):
        item = None
        if problem is None and path.suffix.lower() in SUFFIXES:
            try:
                item = Item(name, str(path.resolve()), path.stat().st_size, _digest(path))
            except OSError:
                problem = "cannot be opened"
        yield name, item, problem


def _name(path: Path, root: Path) -> str:
    relative = path.relative_to(root).as_posix() if path != root else path.name
    return relative.encode("utf-8", "replace").decode()


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _files(root: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield files, and what speaks against those that are not read."""
    if not root.is_dir():
        # Opening a pipe would wait for a writer.
        yield root, None if root.is_file() else "not a regular file"
        return
    inside = root.resolve()
    for folder, folders, names in os.walk(root):
        # A link to a folder is never followed: its target is outside, or is visited by itself.
        folders[:] = [
            name for name in folders if not name.startswith(".") and not is_index(Path(folder) / name)
        ]
        if MANIFEST in names and is_index(Path(folder)):
            continue
        for name in names:
            path = Path(folder) / name
            if not name.startswith("."):
                yield path, _problem(path, inside)


def _problem(path: Path, inside: Path) -> str | None:
    try:
        if path.is_symlink() and not path.resolve(strict=True).is_relative_to(inside):
            return "a link that leads out of the folder"
        return None if stat.S_ISREG(path.stat().st_mode) else "not a regular file"
    except (OSError, RuntimeError):
        return "cannot be opened"


def unique_name(name: str, prefix: str, taken: set[str]) -> str:
    """Return a name that no other item has: behind its source's name where two sources share it."""
    unique, number = name, 1
    while unique in taken:
        unique = f"{prefix}/{name}" if number == 1 else f"{prefix}~{number}/{name}"
        number += 1
    return unique
