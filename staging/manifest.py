"""What a staged prefix holds: sizes, checksums, where it came from and what made it.

The manifest is the proof that a prefix is complete, so it is written after everything that it names.
Reading one that somebody else wrote never fails: what does not fit the format counts as no manifest.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

Kind = Literal["model", "dataset"]

MANIFEST_NAME = "manifest.json"
FORMAT = 1
TOOLS = ("huggingface_hub", "safetensors", "torch", "boto3")
HASH_CHUNK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Source:
    """A repository of the hub at one commit (40 hex digits)."""

    kind: Kind
    id: str
    revision: str


@dataclass(frozen=True)
class StagedFile:
    """One file below the prefix. `size` is in bytes, `sha256` hexadecimal."""

    path: str
    size: int
    sha256: str
    made_from: str | None = None
    """SHA-256 of the pickled shard that it was converted from."""


@dataclass(frozen=True)
class Manifest:
    """Everything below one prefix."""

    source: Source
    patterns: tuple[str, ...]
    """Which files of a dataset were asked for; empty for a model."""
    files: tuple[StagedFile, ...]
    tools: dict[str, str]

    def to_json(self) -> bytes:
        """Return the file's content; equal manifests give equal bytes."""
        content = {
            "format": FORMAT,
            "source": asdict(self.source),
            "patterns": list(self.patterns),
            "total_size": sum(file.size for file in self.files),
            "files": [_without_none(asdict(file)) for file in sorted(self.files, key=lambda file: file.path)],
            "tools": self.tools,
        }
        return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> Manifest | None:
        """Return the manifest in a file's content, None where it is not one of this format."""
        try:
            read = json.loads(content)
            if read["format"] != FORMAT:
                return None
            return cls(
                source=Source(**read["source"]),
                patterns=tuple(read["patterns"]),
                files=tuple(StagedFile(**file) for file in read["files"]),
                tools=dict(read["tools"]),
            )
        except (ValueError, TypeError, KeyError):
            return None

    def covers(self, source: Source, patterns: Sequence[str]) -> bool:
        """Tell whether it is about this source and these files of it."""
        return bool(self.files) and self.source == source and set(patterns) == set(self.patterns)


def tool_versions() -> dict[str, str]:
    """Return the versions of what had a hand in the files."""
    return {"python": sys.version.split()[0], **{tool: version(tool) for tool in TOOLS}}


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal; it is read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(HASH_CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def git_blob_id(path: Path) -> str:
    """Return the id that git gives a file's content: how the hub names files it keeps in git itself."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(HASH_CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
