"""Where large files come from: a Hugging Face dataset, or a prefix in S3 with a manifest.

An origin names its files with their sizes and checksums and fetches one at a time, going on where an
earlier try, a killed one too, has stopped. It unpacks nothing and runs nothing; who may download, and what
becomes of the files, is its users' business: `retrieval.wikipedia_prepare`, `retrieval.live`, `weights`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urlsplit

from openchatkit.settings import SettingsError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PART_BYTES = 32 * 2**20
"""What one request brings; several are under way at once. One that a kill cut short is made again."""
WORKERS = 8
READ_BYTES = 2**20
MANIFEST = "manifest.json"
"""Written last beside the files of an S3 prefix (`staging`): names, sizes, SHA-256."""
MAX_MANIFEST_BYTES = 16 * 2**20
HUB_SCHEME = "hf://datasets/"

_COMMIT = re.compile(r"[0-9a-f]{40}")

ReadRange = Callable[[int, int], Iterable[bytes]]
Progress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes of it that are here, and its size."""


class OriginUnusable(RuntimeError):
    """The origin cannot be read, lacks a file, or gave something else than it announced."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the origin announces it. Small files of a hub have no `sha256`."""

    name: str
    size: int
    sha256: str | None


class Origin(Protocol):
    """Where files come from. Everything here blocks."""

    @property
    def identity(self) -> str:
        """What the files are, revision included: another identity, other files."""
        ...

    def file(self, name: str) -> RemoteFile:
        """Return what the origin says of a file; raises `OriginUnusable`."""
        ...

    def fetch(self, file: RemoteFile, folder: Path, progress: Progress) -> Path:
        """Bring a file into a folder, resuming what is there of it; raises `OriginUnusable`."""
        ...


def parse_origin(address: str, *, revision: str | None = None, hub: str | None = None) -> Origin:
    """Return the origin of `hf://datasets/<org>/<name>` or of `s3://<bucket>/<prefix>/`.

    Args:
        address: where it is.
        revision: commit of a dataset.
        hub: address of the hub; None takes `HF_ENDPOINT`, or the public one.

    Raises:
        SettingsError: an address of another kind.
    """
    if address.startswith(HUB_SCHEME):
        return HubOrigin(address.removeprefix(HUB_SCHEME).strip("/"), revision, hub=hub)
    parts = urlsplit(address)
    if parts.scheme == "s3" and parts.netloc and parts.path.strip("/"):
        import boto3

        return S3Origin(boto3.client("s3"), parts.netloc, parts.path.strip("/"))
    raise SettingsError(f"{address[:80]!r}: neither {HUB_SCHEME}<org>/<name> nor s3://<bucket>/<prefix>/")


def matches(path: Path, file: RemoteFile) -> bool:
    """Return whether a file is what its origin announced: the size, and the SHA-256 where one is known."""
    if path.stat().st_size != file.size:
        return False
    if file.sha256 is None:
        return True
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256


class HubOrigin:
    """A dataset on a Hugging Face hub, at one commit. `HF_TOKEN` is heeded."""

    def __init__(self, dataset: str, revision: str | None = None, *, hub: str | None = None) -> None:
        """Name a dataset.

        Args:
            dataset: `<org>/<name>`.
            revision: a commit; a branch or None is looked up on the hub at every start.
            hub: its address; None takes `HF_ENDPOINT`, or the public one.
        """
        self._hub = hub
        self._dataset = dataset
        self._revision = revision

    @property
    def identity(self) -> str:
        """The dataset and its commit."""
        return f"{HUB_SCHEME}{self._dataset}@{self._commit}"

    def file(self, name: str) -> RemoteFile:
        """Return what the hub says of a file."""
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        with self._hub_errors():
            found = HfApi(self._hub).get_paths_info(
                self._dataset, name, revision=self._commit, repo_type="dataset"
            )
        for entry in found:
            if isinstance(entry, RepoFile):
                return RemoteFile(name, entry.size, entry.lfs.sha256 if entry.lfs else None)
        raise OriginUnusable(f"the dataset {self._dataset} has no file {name}")

    def fetch(self, file: RemoteFile, folder: Path, progress: Progress) -> Path:
        """Download a file in parts. `hf_hub_download` begins anew where its process was killed."""
        from huggingface_hub import HfFileSystem

        hub = HfFileSystem(endpoint=self._hub, skip_instance_cache=True)
        path = f"datasets/{self._dataset}@{self._commit}/{file.name}"

        def read(start: int, end: int) -> Iterable[bytes]:
            with self._hub_errors():
                yield cast("bytes", hub.cat_file(path, start=start, end=end))

        return _fetch_in_parts(file, folder, progress, read)

    @cached_property
    def _commit(self) -> str:
        """The revision; asked for where it is a branch. A commit needs no hub where all files are here."""
        if self._revision is not None and _COMMIT.fullmatch(self._revision):
            return self._revision
        from huggingface_hub import HfApi

        with self._hub_errors():
            return str(HfApi(self._hub).dataset_info(self._dataset, revision=self._revision).sha)

    @contextlib.contextmanager
    def _hub_errors(self) -> Iterator[None]:
        from huggingface_hub import errors

        what = f"the dataset {self._dataset}" + (f" at {self._revision}" if self._revision else "")
        try:
            yield
        except errors.GatedRepoError:
            raise OriginUnusable(f"{what} is gated: accept its terms, then set HF_TOKEN") from None
        except errors.RepositoryNotFoundError:
            raise OriginUnusable(f"{what} does not exist, or HF_TOKEN may not read it") from None
        except errors.RevisionNotFoundError:
            raise OriginUnusable(f"{what}: no such revision") from None
        except Exception as error:  # the transport below the hub's client changes with its versions
            raise OriginUnusable(f"{what} could not be read: {type(error).__name__}") from error


class S3Origin:
    """A prefix in S3 with a manifest: what `staging` has put there, or an index directory."""

    def __init__(self, client: S3Client, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix.strip("/")

    @property
    def identity(self) -> str:
        """The prefix; and what its manifest said when it was read."""
        return f"s3://{self._bucket}/{self._prefix}/@{self._manifest[0]}"

    def version(self) -> str:
        """Return the ETag that the manifest has now; raises `OriginUnusable`."""
        with self._aws_errors():
            return self._client.head_object(Bucket=self._bucket, Key=f"{self._prefix}/{MANIFEST}")["ETag"]

    def manifest(self) -> bytes:
        """Return the manifest as it was when it was first read."""
        return self._manifest[2]

    def files(self) -> tuple[RemoteFile, ...]:
        """Return all that the manifest names; raises `OriginUnusable`."""
        return self._manifest[1]

    def file(self, name: str) -> RemoteFile:
        """Return what the manifest says of a file."""
        for entry in self._manifest[1]:
            if entry.name == name:
                return entry
        raise OriginUnusable(f"s3://{self._bucket}/{self._prefix}/{MANIFEST} names no file {name}")

    def fetch(self, file: RemoteFile, folder: Path, progress: Progress) -> Path:
        """Download a file in parts."""

        def read(start: int, end: int) -> Iterable[bytes]:
            key, span = f"{self._prefix}/{file.name}", f"bytes={start}-{end - 1}"
            with self._aws_errors():
                answer = self._client.get_object(Bucket=self._bucket, Key=key, Range=span)
                yield from answer["Body"].iter_chunks(READ_BYTES)

        return _fetch_in_parts(file, folder, progress, read)

    @cached_property
    def _manifest(self) -> tuple[str, tuple[RemoteFile, ...], bytes]:
        with self._aws_errors():
            answer = self._client.get_object(Bucket=self._bucket, Key=f"{self._prefix}/{MANIFEST}")
            blob = answer["Body"].read(MAX_MANIFEST_BYTES)
        try:
            entries = tuple(_manifest_entry(entry) for entry in _listed(json.loads(blob)["files"]))
        except (ValueError, KeyError, TypeError) as error:
            raise OriginUnusable(f"s3://{self._bucket}/{self._prefix}/{MANIFEST} is no manifest") from error
        return hashlib.sha256(blob).hexdigest()[:16], entries, blob

    @contextlib.contextmanager
    def _aws_errors(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "?")
            raise OriginUnusable(f"s3://{self._bucket}/{self._prefix}/ answers {code}") from error
        except BotoCoreError as error:
            raise OriginUnusable(
                f"s3://{self._bucket}/{self._prefix}/ could not be read: {type(error).__name__}"
            ) from error


def _listed(files: dict[str, Any] | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a manifest's files as a list; an index's manifest has them by name."""
    if isinstance(files, dict):
        return [
            {"name": name, "size": entry["bytes"], "sha256": entry["sha256"]} for name, entry in files.items()
        ]
    return list(files)


def _manifest_entry(entry: dict[str, Any]) -> RemoteFile:
    name = str(entry["name"])
    if name.startswith("/") or ".." in Path(name).parts:
        raise ValueError("a name that leaves the folder")
    return RemoteFile(name, int(entry["size"]), str(entry["sha256"]))


def _fetch_in_parts(file: RemoteFile, folder: Path, progress: Progress, read: ReadRange) -> Path:
    """Write a file part by part, several at a time.

    A journal beside the unfinished file names the parts that are written, for whoever goes on after a kill.
    """
    path = folder / file.name
    if path.exists() and path.stat().st_size == file.size:
        return path
    partial, journal = path.with_name(path.name + ".partial"), path.with_name(path.name + ".parts")
    path.parent.mkdir(parents=True, exist_ok=True)
    done = _finished_parts(journal) if partial.exists() else set[int]()
    missing = [part for part in range(-(-file.size // PART_BYTES)) if part not in done]
    here = file.size - sum(_part_size(file, part) for part in missing)
    progress(file.name, here, file.size)
    with (
        partial.open("r+b" if partial.exists() else "w+b") as target,
        journal.open("a" if done else "w") as log,
        ThreadPoolExecutor(WORKERS) as pool,
    ):
        tasks = [pool.submit(_fetch_part, file, part, target.fileno(), read) for part in missing]
        try:
            for task in as_completed(tasks):
                here += _part_size(file, task.result())
                log.write(f"{task.result()}\n")
                log.flush()
                progress(file.name, here, file.size)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            log.writelines(f"{task.result()}\n" for task in tasks if _succeeded(task))
            raise
        os.fsync(target.fileno())
    partial.replace(path)
    journal.unlink()
    return path


def _fetch_part(file: RemoteFile, part: int, target: int, read: ReadRange) -> int:
    start, size = part * PART_BYTES, _part_size(file, part)
    written = 0
    for piece in read(start, start + size):
        os.pwrite(target, piece, start + written)
        written += len(piece)
    if written != size:
        raise OriginUnusable(f"{file.name} is not as long as it was announced")
    return part


def _succeeded(task: Future[int]) -> bool:
    return not task.cancelled() and task.exception() is None


def _part_size(file: RemoteFile, part: int) -> int:
    return min(PART_BYTES, file.size - part * PART_BYTES)


def _finished_parts(journal: Path) -> set[int]:
    """Return the parts that a journal names; a line that a kill cut short counts for nothing."""
    try:
        lines = journal.read_text("ascii").split("\n")[:-1]
    except (OSError, ValueError):
        return set()
    return {int(line) for line in lines if line.isdecimal()}
