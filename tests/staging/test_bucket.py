from __future__ import annotations

import hashlib
import os
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from staging.bucket import PART_BYTES, Bucket
from staging.errors import StagingError
from staging.manifest import Manifest, Source, StagedFile
from tests.staging.conftest import Bench

KEY = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"


def bucket(bench: Bench, **options: object) -> Bucket:
    return Bucket(bench.s3, bench.name, "weights/x", **{"kms_key": None, "workers": 4, **options})  # type: ignore[arg-type]


def test_a_large_file_goes_in_parts_with_its_checksum(bench: Bench, tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * (PART_BYTES // (1 << 20)) + b"tail"
    path = tmp_path / "large"
    path.write_bytes(content)
    file = StagedFile("a/large.bin", len(content), hashlib.sha256(content).hexdigest(), made_from="2" * 64)
    counted: list[int] = []
    there = bucket(bench, kms_key=KEY)
    there.upload(path, file, count=counted.append)
    assert sum(counted) == len(content)
    stored = there.stored("a/large.bin")
    assert stored is not None
    assert stored.is_same(file)
    assert stored.made_from == "2" * 64
    head = bench.s3.head_object(Bucket=bench.name, Key="weights/x/a/large.bin")
    assert head["ETag"].endswith('-2"')
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", KEY)
    assert there.reader("a/large.bin")(len(content) - 4, 4) == b"tail"


def test_what_another_converter_made_is_made_anew(bench: Bench) -> None:
    metadata = {"sha256": "1" * 64, "made-from": "2" * 64, "converter": "0"}
    bench.s3.put_object(Bucket=bench.name, Key="weights/x/a", Body=b"1", Metadata=metadata)
    stored = bucket(bench).stored("a")
    assert stored is not None
    assert stored.made_from is None


def test_nothing_there(bench: Bench) -> None:
    there = bucket(bench)
    there.check()
    assert there.stored("a") is None
    assert there.manifest() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1}'])
def test_a_manifest_that_is_none(bench: Bench, content: bytes) -> None:
    bench.s3.put_object(Bucket=bench.name, Key="weights/x/manifest.json", Body=content)
    assert bucket(bench).manifest() is None


def test_a_manifest_comes_back(bench: Bench) -> None:
    manifest = Manifest(
        source=Source("dataset", "org/d", "a" * 40),
        patterns=("*.parquet",),
        files=(StagedFile("b", 1, "1" * 64), StagedFile("c", 2, "2" * 64, "3" * 64)),
        tools={"python": "3"},
    )
    there = bucket(bench)
    there.put_manifest(manifest)
    assert there.manifest() == manifest
    assert not there.holds(manifest)
    assert manifest.covers(manifest.source, ["*.parquet"])
    assert not manifest.covers(manifest.source, ["*"])
    assert not manifest.covers(Source("model", "org/d", "a" * 40), ["*.parquet"])


def test_a_bucket_that_refuses(bench: Bench) -> None:
    nothing = Bucket(bench.s3, "not-there-at-all", "x", kms_key=None, workers=1)
    with pytest.raises(StagingError, match=r"^the bucket not-there-at-all does not exist$"):
        nothing.check()
    with pytest.raises(StagingError, match="does not exist"):
        nothing.put_manifest(Manifest(Source("model", "m", "a"), (), (), {}))


def test_a_bucket_that_is_gone_in_mid_upload(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    nothing = Bucket(bench.s3, "not-there-at-all", "x", kms_key=None, workers=1)
    with pytest.raises(StagingError, match=r"^the bucket not-there-at-all (does not exist|cannot be used)"):
        nothing.upload(tmp_path / "f", StagedFile("f", 1, "1" * 64), count=lambda count: None)


def test_an_endpoint_that_is_not_there() -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url="http://127.0.0.1:9",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )
    with pytest.raises(StagingError, match=r"^the bucket b cannot be reached: EndpointConnectionError$"):
        Bucket(s3, "b", "x", kms_key=None, workers=1).check()
