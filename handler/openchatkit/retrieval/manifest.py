"""An index directory's manifest, and how its files are put in place.

    manifest.json              all below: format, encoder, counts, parameters, names, sizes, SHA-256
    documents-<digest>.sqlite  documents, sentences, files (`document_table`)
    vectors-<digest>.faiss     one vector a row (`vectors`)
    lists-<digest>.faiss       an inverted file over them, from `EXACT_ROWS` rows on
    lexical-<digest>/          words (`lexical`)

Nothing in it is a pickle, and nothing says when or where it was made: the same input gives the same
bytes. The manifest is replaced last and in one step, so that a directory holds the old index or the new
one, whole; what the new one does not name goes away afterwards.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

FORMAT: Literal[2] = 2
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 2**20
READ_BYTES = 2**20
CHECKED_BYTES = 64 * 2**20
"""Files up to this size are compared with their checksums whenever an index is opened; of larger ones
only the size, unless a check is asked for."""
DEFAULT_NAME = "documents"

FileName = Annotated[str, StringConstraints(pattern=r"^[a-z]+-[0-9a-f]{16}(\.[a-z]+|/[A-Za-z0-9.-]+)$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class IndexUnusable(ValueError):
    """A folder that holds no index for this encoder and format, or a damaged one."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class File(_Model):
    """A file of the index."""

    bytes: int
    sha256: Sha256


class EncoderEntry(_Model):
    """What made the vectors."""

    identity: str
    """Changes with the weights: vectors of two encoders do not compare."""
    dimension: Annotated[int, Field(ge=1)]
    model: str | None = None
    """A directory or hub id, where it was named."""


class Counts(_Model):
    """How much there is."""

    documents: int
    sentences: int
    rows: int
    """Sentences that are searched; the others stand there twice."""
    duplicates: int
    skipped: int


class VectorEntry(_Model):
    """How vectors are kept and searched, and what that was measured to find."""

    kind: Literal["exact", "ivf_pq"]
    code: Literal["float32", "float16", "sq8"]
    recall_at_10: float | None = None
    """Against exact search over float32, on `queries` held-out queries; None: it is that search."""
    queries: int = 0
    lists: int = 0
    probes: int = 0
    """Lists that a search reads."""
    subquantizers: int = 0
    factor: int = 0
    """Candidates compared anew by their vectors, in times of the hits that are wanted."""


class Manifest(_Model):
    """What `manifest.json` says."""

    format: Literal[2] = FORMAT
    name: str = DEFAULT_NAME
    """Of the source that answers from it."""
    encoder: EncoderEntry
    counts: Counts
    vectors: VectorEntry
    parameters: dict[str, int | float | str | bool]
    files: dict[FileName, File]

    def file(self, kind: str) -> str | None:
        """Return the name of the file or folder of a kind, None where there is none."""
        return next((name.partition("/")[0] for name in self.files if name.startswith(f"{kind}-")), None)


def is_index(folder: Path) -> bool:
    """Return whether a folder holds an index of this format."""
    try:
        read_manifest(folder)
    except IndexUnusable:
        return False
    return True


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises:
        IndexUnusable: there is none, or it is not one of this format.
    """
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise IndexUnusable("no manifest of an index")
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise IndexUnusable("no index of this version") from error


def check_files(folder: Path, manifest: Manifest, *, thorough: bool = False) -> None:
    """Compare an index's files with its manifest.

    Raises:
        IndexUnusable: one is missing or is not what it was.
    """
    for name, entry in manifest.files.items():
        path = folder / name
        try:
            if path.stat().st_size != entry.bytes:
                raise IndexUnusable("a file does not have the size it had")
            if (thorough or entry.bytes <= CHECKED_BYTES) and sha256_of(path) != entry.sha256:
                raise IndexUnusable("a file does not match its checksum")
        except OSError as error:
            raise IndexUnusable("a file is missing") from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def publish(folder: Path, built: Mapping[str, Path], manifest: Manifest) -> Manifest:
    """Move finished files into an index directory and replace its manifest.

    Args:
        folder: the index directory; readers of the old index go on with the files they have open.
        built: file or folder of each kind, on the same file system.
        manifest: with no files; those are entered here.

    Returns:
        The manifest as it was written.

    Raises:
        OSError: the folder cannot be written. The index that it held is as it was.
    """
    files: dict[str, File] = {}
    for kind, path in built.items():
        members = sorted(path.iterdir()) if path.is_dir() else [path]
        entries = {member: File(bytes=member.stat().st_size, sha256=sha256_of(member)) for member in members}
        digest = hashlib.sha256("".join(entry.sha256 for entry in entries.values()).encode()).hexdigest()
        target = folder / f"{kind}-{digest[:16]}{path.suffix}"
        for member, entry in entries.items():
            _sync(member)
            files[f"{target.name}/{member.name}" if path.is_dir() else target.name] = entry
        if target.is_dir():  # the same words as before
            shutil.rmtree(path)
        else:
            path.replace(target)
    manifest = manifest.model_copy(update={"files": dict(sorted(files.items()))})
    write_atomically(folder / MANIFEST, manifest.model_dump_json(indent=2).encode() + b"\n")
    _remove_stale(folder, {name.partition("/")[0] for name in files})
    return manifest


def _remove_stale(folder: Path, kept: set[str]) -> None:
    for pattern in (
        "documents-*.sqlite",
        "vectors-*.faiss",
        "lists-*.faiss",
        "lexical-*",
        "documents-*.jsonl",
    ):
        for path in folder.glob(pattern):
            if path.name in kept:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_atomically(path: Path, blob: bytes) -> None:
    """Put a file in place in one step: readers see the old one or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
