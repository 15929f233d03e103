"""Downloads in parts, from stand-ins that break; `retrieval/test_wikipedia_prepare` has a hub and S3."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from openchatkit.origins import PART_BYTES, OriginUnusable, RemoteFile, S3Origin, parse_origin
from openchatkit.settings import SettingsError


@pytest.mark.parametrize("address", ["", "https://example.com/x", "s3://bucket", "hf://models/x", "/a/path"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="neither"):
        parse_origin(address)


class Bucket:
    """An S3 client over a dictionary, counting; one that breaks off after so many calls."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.ranges: list[str] = []
        self.breaks_after: int | None = None

    def get_object(self, *, Bucket: str, Key: str, Range: str = "") -> dict[str, object]:  # noqa: N803
        content = self.files[Key]
        if Range:
            if self.breaks_after is not None and len(self.ranges) >= self.breaks_after:
                raise ConnectionError
            self.ranges.append(Range)
            first, last = map(int, Range.removeprefix("bytes=").split("-"))
            content = content[first : last + 1]
        return {"Body": Body(content)}


class Body:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def read(self, most: int) -> bytes:
        return self.content[:most]

    def iter_chunks(self, size: int) -> Iterator[bytes]:
        yield from (self.content[at : at + size] for at in range(0, len(self.content), size))


def test_s3_parts_are_not_fetched_twice(tmp_path: Path) -> None:
    content = np.random.default_rng(1).bytes(3 * PART_BYTES + 5)
    file = RemoteFile("big.bin", len(content), hashlib.sha256(content).hexdigest())
    bucket = Bucket({"p/big.bin": content})
    origin = S3Origin(bucket, "b", "p")  # type: ignore[arg-type]
    bucket.breaks_after = 2
    with pytest.raises(ConnectionError):
        origin.fetch(file, tmp_path, lambda *_: None)
    bucket.breaks_after = None
    seen: list[int] = []
    path = origin.fetch(file, tmp_path, lambda _, done, __: seen.append(done))
    assert path.read_bytes() == content
    assert seen[0] > 0  # not from the beginning
    assert seen[-1] == len(content)
    assert len(set(bucket.ranges)) == 4
    assert len(bucket.ranges) <= 6
    assert [entry.name for entry in tmp_path.iterdir()] == ["big.bin"]


@pytest.mark.parametrize(
    "manifest",
    [b"", b"[]", b'{"files": [{"name": "../x", "size": 1, "sha256": "0"}]}', b'{"files": [{"name": "x"}]}'],
)
def test_a_manifest_that_is_none(tmp_path: Path, manifest: bytes) -> None:
    origin = S3Origin(Bucket({"p/manifest.json": manifest}), "b", "p")  # type: ignore[arg-type]
    with pytest.raises(OriginUnusable, match="no manifest"):
        origin.file("x")
