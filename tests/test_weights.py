"""A judge's weights from S3: as moto serves it, by a manifest as staging writes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws

from openchatkit.settings import SettingsError
from openchatkit.weights import local_weights

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

ADDRESS = "s3://weights-bucket/weights/org/judge/abc/"
FILES = {"config.json": b"{}", "nested/model.safetensors": b"tensors" * 1000}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Client]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="weights-bucket")
        yield client


def stage(client: S3Client, **changed: bytes) -> None:
    entries = [
        {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in FILES.items()
    ]
    objects = {**FILES, **changed, "manifest.json": json.dumps({"files": entries}).encode()}
    for name, content in objects.items():
        client.put_object(Bucket="weights-bucket", Key=f"weights/org/judge/abc/{name}", Body=content)


def test_a_folder_and_a_hub_id_are_left_as_they_are() -> None:
    assert local_weights("/opt/weights") == "/opt/weights"
    assert local_weights("togethercomputer/GPT-JT-Moderation-6B") == "togethercomputer/GPT-JT-Moderation-6B"


def test_a_prefix_is_downloaded_once(s3: S3Client, tmp_path: Path) -> None:
    stage(s3)
    folder = Path(local_weights(ADDRESS, tmp_path))
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    for name in FILES:  # whoever looks again finds them here
        s3.delete_object(Bucket="weights-bucket", Key=f"weights/org/judge/abc/{name}")
    assert local_weights(ADDRESS, tmp_path) == str(folder)


def test_other_bytes_than_announced_are_refused_and_tried_again(s3: S3Client, tmp_path: Path) -> None:
    stage(s3, **{"config.json": b"[]"})
    with pytest.raises(SettingsError, match=r"moderation_model: config\.json does not match its checksum"):
        local_weights(ADDRESS, tmp_path)
    stage(s3)
    assert (Path(local_weights(ADDRESS, tmp_path)) / "config.json").read_bytes() == b"{}"


def test_what_is_not_there_is_named(s3: S3Client, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"moderation_model: s3://weights-bucket/weights/org/judge/abc"):
        local_weights(ADDRESS, tmp_path)
