"""The bucket of a job: files there and back.

What a job reads lies under names made from its content, so what is there is not sent again. The bucket drops
what is older than two weeks; what is older than one is sent anew, so that it stays for as long as a job runs.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import boto3
from boto3.exceptions import Boto3Error
from botocore.exceptions import ClientError as AwsError

from client.aws import code_of, failures
from client.errors import CallFailed
from client.terminal import one_line
from openchatkit.retrieval.manifest import MANIFEST, MAX_MANIFEST_BYTES, IndexUnusable, read_manifest

FRESH = datetime.timedelta(days=7)
TRANSFERS = 8
"""Files on their way at the same time."""
CHUNK = 1000
"""Files that are handed out at once: so many may be sent in vain when one of them fails."""


class Bucket:
    """A bucket's objects, by key."""

    def __init__(self, session: boto3.Session, name: str) -> None:
        self.name = name
        with failures():
            self._client = session.client("s3")

    def address(self, key: str) -> str:
        """Return the address of an object or a prefix."""
        return f"s3://{self.name}/{key}"

    def send(self, prefix: str, files: Mapping[str, Path], report: Callable[[int, int], None]) -> None:
        """Bring files below a prefix that ends in a slash, but for those that are there.

        Raises:
            CallFailed: one of them cannot be brought there.
        """
        held = self._fresh(prefix)
        missing = [
            (path, f"{prefix}{name}")
            for name, path in files.items()
            if held.get(f"{prefix}{name}") != path.stat().st_size
        ]
        done = len(files) - len(missing)
        report(done, len(files))
        with ThreadPoolExecutor(TRANSFERS) as pool:
            for start in range(0, len(missing), CHUNK):
                done += len(list(pool.map(self._put, missing[start : start + CHUNK])))
                report(done, len(files))

    def holds(self, key: str) -> bool:
        """Tell whether there is an object."""
        with failures(self.address(key)):
            try:
                self._client.head_object(Bucket=self.name, Key=key)
            except AwsError as error:
                if code_of(error) in ("404", "NoSuchKey"):
                    return False
                raise
        return True

    def fetch_index(self, prefix: str, folder: Path) -> None:
        """Bring an index below a prefix that ends in a slash into a folder; what is there stays.

        Raises:
            CallFailed: there is none, or it cannot be brought.
        """
        folder.mkdir(parents=True, exist_ok=True)
        address = self.address(prefix)
        with failures(address):
            body = self._client.get_object(Bucket=self.name, Key=f"{prefix}{MANIFEST}")["Body"]
            content = body.read(MAX_MANIFEST_BYTES + 1)
        (folder / MANIFEST).write_bytes(content)
        try:
            manifest = read_manifest(folder)  # names of files that lead nowhere else
        except IndexUnusable as error:
            raise CallFailed(f"{address} is no index that can be read here: {error}") from error
        wanted = [
            (f"{prefix}{name}", folder / name)
            for name, file in manifest.files.items()
            if not (folder / name).is_file() or (folder / name).stat().st_size != file.bytes
        ]
        with ThreadPoolExecutor(TRANSFERS) as pool:
            list(pool.map(self._get, wanted))

    def _fresh(self, prefix: str) -> dict[str, int]:
        """Return the sizes of objects that stay for a while, by key."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        oldest = datetime.datetime.now(datetime.UTC) - FRESH
        with failures(self.address(prefix)):
            return {
                entry["Key"]: entry["Size"]
                for page in pages
                for entry in page.get("Contents", [])
                if entry["LastModified"] > oldest
            }

    def _put(self, transfer: tuple[Path, str]) -> None:
        path, key = transfer
        with _transfers(self.address(key)):
            self._client.upload_file(str(path), self.name, key)

    def _get(self, transfer: tuple[str, Path]) -> None:
        key, path = transfer
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        with _transfers(self.address(key)):
            self._client.download_file(self.name, key, str(part))
        part.replace(path)


@contextmanager
def _transfers(address: str) -> Iterator[None]:
    """Turn what boto3 and its transfers raise in the block into `CallFailed`."""
    try:
        with failures(address):
            yield
    except Boto3Error as error:
        raise CallFailed(f"{address}: {one_line(str(error), 300)}") from error
