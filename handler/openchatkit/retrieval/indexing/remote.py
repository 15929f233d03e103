"""Files that lie elsewhere: `s3://bucket/prefix` and `hf://datasets/owner/name[@revision][/folder]`.

S3 by the credentials that boto3 finds, the hub by those of `huggingface_hub` (and `HF_ENDPOINT`).
Nothing is unpacked and no code of a dataset is run.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

S3_SCHEME = "s3://"
HUB_SCHEME = "hf://datasets/"
MAX_FILE_BYTES = 64 * 2**30


class SourceUnusable(RuntimeError):
    """An address that cannot be listed or fetched; the message names it."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as its listing describes it."""

    name: str
    """Its path below the source."""
    location: str
    size: int
    fingerprint: str


def is_remote(address: str) -> bool:
    """Return whether an address is none of this machine's paths."""
    return address.startswith((S3_SCHEME, HUB_SCHEME))


def list_files(source: str) -> Iterator[RemoteFile]:
    """Yield the files below an address, in the order of their names.

    Raises:
        SourceUnusable: the address is malformed, or its listing fails.
    """
    files = _list_s3(source) if source.startswith(S3_SCHEME) else _list_hub(source)
    return iter(sorted(files, key=lambda file: file.name))


def fetch(location: str, folder: Path) -> Path:
    """Bring a file into a folder and return its path.

    Raises:
        SourceUnusable: it cannot be fetched.
    """
    return _fetch_s3(location, folder) if location.startswith(S3_SCHEME) else _fetch_hub(location, folder)


def _list_s3(source: str) -> list[RemoteFile]:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, prefix = source.removeprefix(S3_SCHEME).partition("/")
    files = []
    try:
        pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for page in pages:
            for entry in page.get("Contents", []):
                key = entry["Key"]
                # A prefix is no folder: `news` also lists `newsletter/`, which was not asked for.
                below = key[len(prefix) :]
                if prefix and not prefix.endswith("/") and below and not below.startswith("/"):
                    continue
                name = below.strip("/") or PurePosixPath(key).name
                if name and not key.endswith("/"):
                    tag = hashlib.sha256(f"{entry['ETag']} {entry['Size']}".encode()).hexdigest()
                    files.append(RemoteFile(name, f"{S3_SCHEME}{bucket}/{key}", entry["Size"], tag))
    except (BotoCoreError, ClientError, ValueError) as error:
        raise SourceUnusable(f"{source} cannot be listed: {type(error).__name__}") from error
    if not files:
        raise SourceUnusable(f"{source} holds no files")
    return files


def _fetch_s3(location: str, folder: Path) -> Path:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = location.removeprefix(S3_SCHEME).partition("/")
    target = folder / f"object{PurePosixPath(key).suffix}"
    try:
        boto3.client("s3").download_file(bucket, key, str(target))
    except (BotoCoreError, ClientError, OSError) as error:
        raise SourceUnusable(f"{location} cannot be fetched: {type(error).__name__}") from error
    return target


def _parse_hub(address: str) -> tuple[str, str | None, str]:
    """Return a dataset's id, its revision and the path in it."""
    parts = address.removeprefix(HUB_SCHEME).split("/", 2)
    if len(parts) < 2 or not all(parts[:2]):
        raise SourceUnusable(f"{address} is not {HUB_SCHEME}OWNER/NAME[@REVISION][/FOLDER]")
    name, _, revision = parts[1].partition("@")
    return f"{parts[0]}/{name}", revision or None, parts[2] if len(parts) > 2 else ""


def _list_hub(source: str) -> list[RemoteFile]:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    dataset, revision, below = _parse_hub(source)
    try:
        info = HfApi(endpoint=_endpoint()).dataset_info(dataset, revision=revision, files_metadata=True)
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise SourceUnusable(f"{source} cannot be listed: {type(error).__name__}") from error
    files = []
    for sibling in info.siblings or []:
        path = sibling.rfilename
        if below and path != below and not path.startswith(f"{below.rstrip('/')}/"):
            continue
        # The commit is pinned: what was listed is what is read.
        location = f"{HUB_SCHEME}{dataset}@{info.sha}/{path}"
        tag = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id or f"{info.sha}/{path}"
        files.append(RemoteFile(path, location, sibling.size or 0, hashlib.sha256(tag.encode()).hexdigest()))
    if not files:
        raise SourceUnusable(f"{source} holds no files")
    return files


def _fetch_hub(location: str, folder: Path) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    dataset, revision, path = _parse_hub(location)
    try:
        return Path(
            hf_hub_download(
                dataset,
                path,
                repo_type="dataset",
                revision=revision,
                local_dir=folder,
                endpoint=_endpoint(),
            )
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise SourceUnusable(f"{location} cannot be fetched: {type(error).__name__}") from error


def _endpoint() -> str | None:
    """The hub's address as it is now; the library reads it once, when it is imported."""
    return os.environ.get("HF_ENDPOINT")
