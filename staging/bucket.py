"""The bucket: what lies below one prefix, and putting more there.

Every object carries the SHA-256 of its content as metadata (S3's own checksums, which boto3 adds to each
part, guard the way there; of a multipart object they say nothing about the whole). Large files go up in
parts, several at once. An object that is there with the right size and checksum is left alone.
"""

from __future__ import annotations

import contextlib
import mimetypes
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from staging.errors import StagingError
from staging.manifest import MANIFEST_NAME, Manifest, StagedFile
from staging.shards import CONVERTER

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PART_BYTES = 64 * 1024 * 1024
"""10,000 parts at most: files up to 640 GB."""
MISSING = ("404", "NoSuchKey", "NotFound")
REASONS = {
    "NoSuchBucket": "does not exist",
    "AccessDenied": "may not be used with these credentials",
    "403": "may not be used with these credentials",
    "404": "does not exist",
    "InvalidAccessKeyId": "cannot be reached: the credentials are not valid",
    "ExpiredToken": "cannot be reached: the credentials have expired",
    "PermanentRedirect": "is in another region",
}
SHA256, MADE_FROM, CONVERTED_BY = "sha256", "made-from", "converter"


@dataclass(frozen=True)
class StoredFile:
    """An object as S3 describes it: size in bytes, and the checksums that were noted at its upload."""

    size: int
    sha256: str | None
    made_from: str | None

    def is_same(self, file: StagedFile) -> bool:
        """Tell whether it holds this content."""
        return (self.size, self.sha256) == (file.size, file.sha256)


class Bucket:
    """The objects of one bucket below one prefix.

    Args:
        client: boto3's; its connection pool should hold `workers`.
        prefix: without a slash at its end.
        kms_key: encrypts the objects; None leaves that to the bucket's default.
        workers: requests at once.
    """

    def __init__(
        self, client: S3Client, name: str, prefix: str, *, kms_key: str | None, workers: int
    ) -> None:
        self._client, self._name, self.prefix, self._workers = client, name, prefix, workers
        self._encryption: dict[str, str] = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
        )
        self._transfer = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=workers
        )

    @property
    def uri(self) -> str:
        """Return where the files lie, as `option.model_id` takes it."""
        return f"s3://{self._name}/{self.prefix}/"

    def check(self) -> None:
        """Look whether the bucket is there and may be listed.

        Raises:
            StagingError: why it cannot be used.
        """
        with self._translated():
            self._client.list_objects_v2(Bucket=self._name, Prefix=f"{self.prefix}/", MaxKeys=1)

    def manifest(self) -> Manifest | None:
        """Return the manifest of the prefix, None where there is none that can be read."""
        content = self._read(MANIFEST_NAME)
        return None if content is None else Manifest.from_json(content)

    def holds(self, manifest: Manifest) -> bool:
        """Tell whether every file that a manifest names is there as it says."""
        with ThreadPoolExecutor(self._workers) as pool:
            stored = list(pool.map(lambda file: self.stored(file.path), manifest.files))
        return all(
            found is not None and found.is_same(file)
            for found, file in zip(stored, manifest.files, strict=True)
        )

    def stored(self, path: str) -> StoredFile | None:
        """Return what is known of an object, None where there is none."""
        with self._translated():
            try:
                head = self._client.head_object(Bucket=self._name, Key=self._key(path))
            except ClientError as error:
                if error.response["Error"]["Code"] in MISSING:
                    return None
                raise
        metadata = head["Metadata"]
        made_from = metadata.get(MADE_FROM) if metadata.get(CONVERTED_BY) == CONVERTER else None
        return StoredFile(head["ContentLength"], metadata.get(SHA256), made_from)

    def reader(self, path: str) -> Callable[[int, int], bytes]:
        """Return a function that reads so many bytes of an object from an offset."""

        def read(offset: int, count: int) -> bytes:
            with self._translated():
                wanted = f"bytes={offset}-{offset + count - 1}"
                answer = self._client.get_object(Bucket=self._name, Key=self._key(path), Range=wanted)
                return answer["Body"].read()

        return read

    def upload(self, local: Path, file: StagedFile, *, count: Callable[[int], None]) -> None:
        """Put a file there. `count` is told of bytes as they go, from several threads.

        Raises:
            StagingError: S3 or the network; parts that had arrived are given up.
        """
        metadata = {SHA256: file.sha256}
        if file.made_from:
            metadata |= {MADE_FROM: file.made_from, CONVERTED_BY: CONVERTER}
        with self._translated():
            self._client.upload_file(
                str(local),
                self._name,
                self._key(file.path),
                ExtraArgs={
                    "Metadata": metadata,
                    "ContentType": mimetypes.guess_type(file.path)[0] or "application/octet-stream",
                    **self._encryption,
                },
                Callback=count,
                Config=self._transfer,
            )

    def put_manifest(self, manifest: Manifest) -> None:
        """Write the manifest. Only what it names may be relied on, and only once it is there."""
        with self._translated():
            self._client.put_object(
                Bucket=self._name,
                Key=self._key(MANIFEST_NAME),
                Body=manifest.to_json(),
                ContentType="application/json",
                **self._encryption,  # type: ignore[arg-type]
            )

    def _read(self, path: str) -> bytes | None:
        with self._translated():
            try:
                return self._client.get_object(Bucket=self._name, Key=self._key(path))["Body"].read()
            except ClientError as error:
                if error.response["Error"]["Code"] in MISSING:
                    return None
                raise

    def _key(self, path: str) -> str:
        return f"{self.prefix}/{path}"

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what boto3 raises into one line that names the bucket and S3's code."""
        try:
            yield
        except ClientError as error:
            raise self._refused(error) from error
        except S3UploadFailedError as error:
            cause = error.__context__
            raise self._refused(cause if isinstance(cause, ClientError) else None) from error
        except NoCredentialsError as error:
            raise StagingError("there are no AWS credentials here") from error
        except BotoCoreError as error:
            raise StagingError(
                f"the bucket {self._name} cannot be reached: {type(error).__name__}"
            ) from error

    def _refused(self, error: ClientError | None) -> StagingError:
        code = error.response["Error"]["Code"] if error else "upload failed"
        return StagingError(f"the bucket {self._name} {REASONS.get(code, f'cannot be used: {code}')}")
