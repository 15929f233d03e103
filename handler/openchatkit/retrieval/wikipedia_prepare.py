"""Bring a prepared Wikipedia index to this instance, once.

    folder = prepare_wikipedia(parse_origin("hf://datasets/org/name", revision=COMMIT), Path("/data"))

Of all processes and workers that share `directory` exactly one downloads; the others wait for the finished
files. The lock is the kernel's (`flock`): one whose holder died is free at once, and the next one in line
goes on where it stopped. A folder is finished when its manifest stands in it, which is written last.
`directory` must be on a local disk: network file systems do not always share locks.

OpenChatKit clones the dataset inside the container at first load, and its other workers wait for a file
that may never come.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import filelock
from pydantic import BaseModel, ConfigDict, ValidationError

from openchatkit.origins import Origin, OriginUnusable, Progress, RemoteFile, matches
from openchatkit.retrieval.faiss_files import compares_all, map_index
from openchatkit.retrieval.manifest import VectorEntry, write_atomically
from openchatkit.retrieval.sentence_table import TableUnusable, convert
from openchatkit.retrieval.vectors import LISTS_FILE, Lists, list_vectors

DATASET = "hf://datasets/ChristophSchuhmann/wikipedia-3sentence-level-retrieval-index"
"""The index that OpenChatKit uses: sentences of the English Wikipedia, embedded by contriever-msmarco."""
INDEX_FILE = "knn.index"
SENTENCES_FILE = "wikipedia-en-sentences.parquet"
TABLE_FILE = "sentences.arrow"
MANIFEST = "manifest.json"
FORMAT: Final = 2
PREPARE_TIMEOUT_S = 3600.0
LOOK_AGAIN_S = 1.0
"""How often one that waits looks whether it is done, or its turn."""
ATTEMPTS = 2
"""Downloads of a file whose checksum is wrong, before that is an error."""

_log = logging.getLogger(__name__)


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal[2] = FORMAT
    origin: str
    rows: int
    files: dict[str, int]
    """Sizes by name, in bytes."""
    lists: VectorEntry | None


@dataclass(frozen=True, slots=True)
class PreparedWikipedia:
    """The finished files."""

    index: Path
    table: Path
    lists: Lists | None = None
    """Where the index itself would compare all of its many vectors at each query."""


def prepare_wikipedia(
    origin: Origin,
    directory: Path,
    *,
    index_file: str = INDEX_FILE,
    sentences_file: str = SENTENCES_FILE,
    timeout_s: float = PREPARE_TIMEOUT_S,
    progress: Progress | None = None,
) -> PreparedWikipedia:
    """Return the files of an index, downloaded by this process or by another one. Blocking.

    Args:
        origin: where they come from.
        directory: a folder of ours, shared by the processes of this instance.
        index_file: the Faiss index.
        sentences_file: the Parquet table of its sentences, a row for each vector.
        timeout_s: how long to wait for another process, in seconds.
        progress: called while this process downloads.

    Raises:
        OriginUnusable: the origin cannot be read or gives wrong bytes, or nobody was ready in time.
        TableUnusable: its table holds no sentences.
        OSError: the disk is full, or cannot be written.
    """
    folder = directory / hashlib.sha256(f"{FORMAT} {origin.identity}".encode()).hexdigest()[:24]
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock")
    until = time.monotonic() + timeout_s
    while True:
        if prepared := _finished(folder):
            return prepared
        try:
            with lock.acquire(timeout=LOOK_AGAIN_S):
                # Whoever had the lock may have finished meanwhile.
                return _finished(folder) or _download(
                    origin, folder, (index_file, sentences_file), progress or _quiet
                )
        except filelock.Timeout:
            if time.monotonic() > until:
                raise OriginUnusable(
                    f"another process has been downloading for over {timeout_s:g} s"
                ) from None


def _finished(folder: Path) -> PreparedWikipedia | None:
    try:
        manifest = _Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        whole = all((folder / name).stat().st_size == size for name, size in manifest.files.items())
    except (OSError, ValidationError):
        return None
    if not whole:
        return None
    lists = Lists(folder / LISTS_FILE, manifest.lists) if manifest.lists else None
    return PreparedWikipedia(folder / INDEX_FILE, folder / TABLE_FILE, lists)


def _download(origin: Origin, folder: Path, names: tuple[str, str], progress: Progress) -> PreparedWikipedia:
    index, sentences = (origin.file(name) for name in names)
    _log.info("downloading %s", origin.identity)
    incoming = folder / "incoming"
    incoming.mkdir(exist_ok=True)
    index_path = _fetch_checked(origin, index, incoming, progress)
    table_path = folder / TABLE_FILE
    source = _fetch_checked(origin, sentences, incoming, progress)
    rows = convert(source, table_path, lambda done, total: progress(TABLE_FILE, done, total))
    if not rows:
        raise TableUnusable(f"{sentences.name} has no rows")
    final = folder / INDEX_FILE
    index_path.replace(final)
    lists = _listed(final)
    written = [final, table_path, *([lists.path] if lists else [])]
    manifest = _Manifest(
        origin=origin.identity,
        rows=rows,
        files={path.name: path.stat().st_size for path in written},
        lists=lists.entry if lists else None,
    )
    write_atomically(folder / MANIFEST, manifest.model_dump_json(indent=2).encode())
    source.unlink()  # the table has taken its place
    prepared = _finished(folder)
    assert prepared is not None
    return prepared


def _listed(index: Path) -> Lists | None:
    """Write lists beside an index that a search would read from end to end."""
    try:
        mapped = map_index(index)
    except RuntimeError as error:
        raise OriginUnusable(f"{index.name} is no Faiss index") from error
    return list_vectors(mapped, index.parent) if compares_all(mapped) else None


def _fetch_checked(origin: Origin, file: RemoteFile, incoming: Path, progress: Progress) -> Path:
    for _ in range(ATTEMPTS):
        path = origin.fetch(file, incoming, progress)
        if matches(path, file):
            return path
        _log.warning("%s does not match its checksum", file.name)
        path.unlink()
    raise OriginUnusable(f"{file.name} does not match its checksum")


def _quiet(name: str, done: int, total: int) -> None:
    """Say nothing."""
