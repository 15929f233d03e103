"""What a job is to index: files of this machine that are sent to its bucket, or a prefix where they lie.

Each file gets the name there that a build on this machine would give it, so the index names no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import boto3

from client.errors import CallFailed
from local.indexing.bucket import Bucket
from openchatkit.retrieval.documents import Skipped
from openchatkit.retrieval.indexing.listing import Item, list_items
from openchatkit.retrieval.indexing.remote import S3_SCHEME
from openchatkit.retrieval.manifest import is_index

WORK_PREFIX = "indexing/"
"""Below it the role of a deployment's jobs may write (`stacks/indexing.py`)."""
DIGITS = 16
"""Of a content's SHA-256 in a name."""

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Corpus:
    """Files that are to be indexed."""

    address: str
    """Prefix below which they are, or will be; ends in a slash."""
    names: tuple[str, ...]
    size: int
    """Bytes."""
    digest: str
    """Of their names and contents."""
    refused: tuple[Skipped, ...]
    """Files that cannot be read and are not sent."""
    files: dict[str, Path]
    """Where those lie that are still to be sent, by name."""

    def send(self, bucket: Bucket, report: Report) -> None:
        """Bring them where they are to be."""
        if self.files:
            bucket.send(self.address.removeprefix(bucket.address("")), self.files, report)


def find_corpus(sources: Sequence[str], bucket: Bucket, session: boto3.Session) -> Corpus:
    """List the files of some sources.

    Raises:
        CallFailed: these sources cannot be indexed there, or hold nothing that can be read.
        FileNotFoundError, remote.SourceUnusable: as `list_items`.
    """
    away = [source for source in sources if "://" in source]
    if away and (len(sources) > 1 or not away[0].startswith(S3_SCHEME)):
        raise CallFailed(
            "--on sagemaker takes files and folders of this machine, or one prefix of S3 (s3://bucket/prefix)"
        )
    for source in sources:
        if not away and is_index(Path(source)):
            raise CallFailed(
                f"{source} is an index: --on sagemaker builds from files, `ock index build` merges"
            )
    return _in_place(away[0], session) if away else _from_here(sources, bucket)


def _from_here(sources: Sequence[str], bucket: Bucket) -> Corpus:
    items, refused = list_items(sources)
    digest = _digest(items)
    return _corpus(
        bucket.address(f"{WORK_PREFIX}documents/{digest[:DIGITS]}/"),
        items,
        digest,
        refused=tuple(refused),
        files={item.name: Path(item.location) for item in items},
        said=", ".join(sources),
    )


def _in_place(source: str, session: boto3.Session) -> Corpus:
    # The listing makes a client of its own, which is to be the same account's.
    boto3.DEFAULT_SESSION = session
    items, _ = list_items([source])
    if any(item.location == source for item in items):
        raise CallFailed(f"{source} is one file; --on sagemaker takes a prefix")
    # As in a folder, hidden files are passed over; what cannot be read is found by the instances.
    items = [item for item in items if not any(part.startswith(".") for part in item.name.split("/"))]
    address = source.rstrip("/") + "/"
    return _corpus(address, items, _digest(items), said=source)


def _corpus(
    address: str,
    items: Sequence[Item],
    digest: str,
    *,
    said: str,
    refused: tuple[Skipped, ...] = (),
    files: dict[str, Path] | None = None,
) -> Corpus:
    if not items:
        raise CallFailed(f"there is nothing in {said} that can be read")
    return Corpus(
        address=address,
        names=tuple(item.name for item in items),
        size=sum(item.size for item in items),
        digest=digest,
        refused=refused,
        files=files or {},
    )


def _digest(items: Sequence[Item]) -> str:
    lines = sorted(f"{item.fingerprint} {item.name}\n" for item in items)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
