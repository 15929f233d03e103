"""Empties a bucket when its stack goes, so that CloudFormation can delete it.

Handlers `on_event` and `is_complete` of the CDK's Provider framework. Resource property: `BucketName`.
Create and Update do nothing. On Delete every version, delete marker and unfinished upload goes, as many as
fit into one call of the function; the framework calls again until nothing is left, so there is no limit of
size but the framework's total time.

A bucket is emptied only while it carries the tag `openchatkit:empty-on-delete` = `true`. The stack sets the
tag together with the resource; an app that changes from `destroy` to `retain` drops both, and CloudFormation
updates the bucket's tags before it deletes the resource, so the data stays.

Permissions on the bucket: s3:GetBucketTagging, s3:ListBucketVersions, s3:ListBucketMultipartUploads,
s3:DeleteObject, s3:DeleteObjectVersion, s3:AbortMultipartUpload.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import ObjectIdentifierTypeDef

TAG = "openchatkit:empty-on-delete"
CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 8}, connect_timeout=5, read_timeout=60)
RESERVE_MS = 20_000
"""A call stops this long before the function's time is over; a batch takes a second or two."""
PAGE_SIZE = 1000
"""Objects of one deletion: S3's own limit."""
GONE = frozenset({"NoSuchBucket", "404"})


class Context(Protocol):
    """What Lambda tells about a call."""

    def get_remaining_time_in_millis(self) -> int:
        """Return the time until the function is stopped."""
        ...


def on_event(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Name the resource after its bucket: a bucket that is replaced is emptied as the old resource goes."""
    if event["RequestType"] == "Delete":
        return {"PhysicalResourceId": event["PhysicalResourceId"]}
    return {"PhysicalResourceId": event["ResourceProperties"]["BucketName"]}


def is_complete(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Delete what there is while time allows, and tell whether the bucket is empty.

    Raises:
        RuntimeError: S3 refused to delete objects; how many and why, without their names.
    """
    if event["RequestType"] != "Delete":
        return {"IsComplete": True}
    bucket, s3 = event["ResourceProperties"]["BucketName"], boto3.client("s3", config=CONFIG)
    try:
        if not _is_marked(s3, bucket):
            return {"IsComplete": True}
        return {"IsComplete": _delete_objects(s3, bucket, context) and _abort_uploads(s3, bucket, context)}
    except ClientError as error:
        if error.response["Error"]["Code"] in GONE:
            return {"IsComplete": True}
        raise


def _is_marked(s3: S3Client, bucket: str) -> bool:
    try:
        tags = s3.get_bucket_tagging(Bucket=bucket)["TagSet"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchTagSet":
            return False
        raise
    return {"Key": TAG, "Value": "true"} in tags


def _delete_objects(s3: S3Client, bucket: str, context: Context) -> bool:
    """Delete versions page by page; True when none is left, False when the time is."""
    while True:
        page = s3.list_object_versions(Bucket=bucket, MaxKeys=PAGE_SIZE)
        keys: list[ObjectIdentifierTypeDef] = [
            {"Key": item["Key"], "VersionId": item["VersionId"]}
            for item in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        ]
        if not keys:
            return True
        if context.get_remaining_time_in_millis() < RESERVE_MS:
            return False
        errors = s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True}).get("Errors", [])
        if errors:
            raise RuntimeError(f"{len(errors)} objects of {bucket} cannot be deleted: {errors[0]['Code']}")


def _abort_uploads(s3: S3Client, bucket: str, context: Context) -> bool:
    """Give up unfinished multipart uploads; True when none is left, False when the time is."""
    while True:
        uploads = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        if not uploads:
            return True
        for upload in uploads:
            if context.get_remaining_time_in_millis() < RESERVE_MS:
                return False
            s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
