"""The function as CloudFormation's framework calls it, on moto's S3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest

from stacks.functions.empty_bucket import index
from tests.support.local_aws import LocalAws

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BUCKET = "artefacts"


class Context:
    """A call with so much time; each look at the clock takes some of it."""

    def __init__(self, *, looks: int = 10**6) -> None:
        self.looks = looks

    def get_remaining_time_in_millis(self) -> int:
        self.looks -= 1
        return 900_000 if self.looks >= 0 else 1_000


@pytest.fixture
def s3(aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> S3Client:
    aws.reset()
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": [{"Key": index.TAG, "Value": "true"}]})
    return s3


def event(kind: str = "Delete") -> dict[str, Any]:
    """An event of the framework."""
    return {
        "RequestType": kind,
        "RequestId": "r-1",
        "PhysicalResourceId": BUCKET,
        "ResourceProperties": {"BucketName": BUCKET},
    }


def versions(s3: S3Client) -> int:
    page = s3.list_object_versions(Bucket=BUCKET)
    return len(page.get("Versions", [])) + len(page.get("DeleteMarkers", []))


def fill(s3: S3Client) -> None:
    """Two versions, one of them behind a delete marker, and an upload that was never finished."""
    for body in (b"old", b"new"):
        s3.put_object(Bucket=BUCKET, Key="weights/a b/ü.safetensors", Body=body)
    s3.put_object(Bucket=BUCKET, Key="indexes/x", Body=b"x")
    s3.delete_object(Bucket=BUCKET, Key="indexes/x")
    s3.create_multipart_upload(Bucket=BUCKET, Key="weights/half")


def test_delete_leaves_nothing(s3: S3Client) -> None:
    fill(s3)
    assert versions(s3) == 4
    assert index.on_event(event(), None) == {"PhysicalResourceId": BUCKET}
    assert index.is_complete(event(), Context()) == {"IsComplete": True}
    assert versions(s3) == 0
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)
    s3.delete_bucket(Bucket=BUCKET)
    assert index.is_complete(event(), Context()) == {"IsComplete": True}


def test_goes_on_in_the_next_call_when_time_is_over(s3: S3Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "PAGE_SIZE", 8)
    for number in range(8 + 5):
        s3.put_object(Bucket=BUCKET, Key=f"{number}", Body=b"")
    s3.create_multipart_upload(Bucket=BUCKET, Key="half")
    assert index.is_complete(event(), Context(looks=0)) == {"IsComplete": False}
    assert index.is_complete(event(), Context(looks=1)) == {"IsComplete": False}
    assert versions(s3) == 5
    assert index.is_complete(event(), Context(looks=1)) == {"IsComplete": False}
    assert versions(s3) == 0
    assert index.is_complete(event(), Context(looks=1)) == {"IsComplete": True}


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_only_delete_deletes(s3: S3Client, kind: str) -> None:
    fill(s3)
    assert index.on_event(event(kind), None) == {"PhysicalResourceId": BUCKET}
    assert index.is_complete(event(kind), Context()) == {"IsComplete": True}
    assert versions(s3) == 4


@pytest.mark.parametrize("tags", [[], [{"Key": index.TAG, "Value": "false"}]])
def test_a_bucket_without_the_mark_keeps_everything(s3: S3Client, tags: list[Any]) -> None:
    """So an app that was changed to `retain` keeps its data though the resource goes."""
    fill(s3)
    s3.delete_bucket_tagging(Bucket=BUCKET)
    if tags:
        s3.put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": tags})
    assert index.is_complete(event(), Context()) == {"IsComplete": True}
    assert versions(s3) == 4


def test_an_object_that_cannot_be_deleted_ends_it(s3: S3Client) -> None:
    """Held objects would be listed again for ever."""
    s3.create_bucket(Bucket="held", ObjectLockEnabledForBucket=True)
    s3.put_bucket_tagging(Bucket="held", Tagging={"TagSet": [{"Key": index.TAG, "Value": "true"}]})
    s3.put_object(Bucket="held", Key="secret-name", Body=b"", ObjectLockLegalHoldStatus="ON")
    held = {**event(), "ResourceProperties": {"BucketName": "held"}}
    with pytest.raises(RuntimeError, match=r"^1 objects of held cannot be deleted: AccessDenied$"):
        index.is_complete(held, Context())
