"""What holds data: buckets, tables, images, and the keys that lock them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError as AwsError

from client.aws import code_of
from client.sweeping.leftover import Leftover, Scope, size

MAX_OBJECTS_COUNTED = 20_000
"""Of a bucket; a larger one is said to hold at least what was counted."""
KEY_WAITING_DAYS = 7
"""The least that KMS allows: until then a deletion can be taken back."""


class Buckets:
    """S3 buckets of the session's region."""

    title = "bucket"

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._client = scope.session.client("s3")

    def find(self) -> Iterator[Leftover]:
        """Yield the app's buckets with the size of all versions of what they hold."""
        pages = self._client.get_paginator("list_buckets").paginate(
            BucketRegion=self._client.meta.region_name
        )
        listed = [bucket["Name"] for page in pages for bucket in page["Buckets"]]
        for name in self._scope.owned(
            listed, lambda found: self._client.get_bucket_tagging(Bucket=found)["TagSet"]
        ):
            stored, count, whole = self._stored(name)
            least = "" if whole else "at least "
            yield Leftover(
                self.title,
                name,
                f"{least}{count} objects, {size(stored)}",
                usd_month=self._scope.prices.storage_month("s3_standard", stored),
                holds_data=count > 0,
            )

    def remove(self, leftover: Leftover) -> None:
        """Empty a bucket, all versions and unfinished uploads, and delete it."""
        bucket = leftover.name
        for uploads in self._client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
            for upload in uploads.get("Uploads", []):
                self._client.abort_multipart_upload(
                    Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )
        for page in self._client.get_paginator("list_object_versions").paginate(Bucket=bucket):
            held: list[Mapping[str, Any]] = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if held:
                versions = [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in held]
                done = self._client.delete_objects(
                    Bucket=bucket,
                    Delete={"Objects": versions, "Quiet": True},  # type: ignore[typeddict-item]
                )
                self._refuse_leavings(bucket, done.get("Errors", []))
        self._client.delete_bucket(Bucket=bucket)

    def _stored(self, bucket: str) -> tuple[int, int, bool]:
        """Return bytes, number of versions, and whether that is all."""
        stored = count = 0
        for page in self._client.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for version in page.get("Versions", []):
                stored += version.get("Size", 0)
                count += 1
            if count >= MAX_OBJECTS_COUNTED:
                return stored, count, not page.get("IsTruncated", False)
        return stored, count, True

    def _refuse_leavings(self, bucket: str, errors: Iterable[Mapping[str, Any]]) -> None:
        for error in errors:
            fields: Any = {"Error": {"Code": error.get("Code", ""), "Message": f"an object in {bucket}"}}
            raise AwsError(fields, "DeleteObjects")


class Tables:
    """DynamoDB tables."""

    title = "table"

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._client = scope.session.client("dynamodb")

    def find(self) -> Iterator[Leftover]:
        """Yield the app's tables with their size, which DynamoDB counts every six hours."""
        listed = [
            name
            for page in self._client.get_paginator("list_tables").paginate()
            for name in page["TableNames"]
        ]
        for name in self._scope.owned(listed, self._tags):
            table = self._client.describe_table(TableName=name)["Table"]
            stored, items = table.get("TableSizeBytes", 0), table.get("ItemCount", 0)
            prices = self._scope.prices
            month = prices.storage_month("dynamodb", stored) + prices.storage_month(
                "dynamodb_recovery", stored
            )
            yield Leftover(
                self.title, name, f"{items} items, {size(stored)}", usd_month=month, holds_data=True
            )

    def remove(self, leftover: Leftover) -> None:
        """Delete a table, protected or not, and wait until it is gone."""
        table = self._client.describe_table(TableName=leftover.name)["Table"]
        if table.get("DeletionProtectionEnabled"):
            self._client.update_table(TableName=leftover.name, DeletionProtectionEnabled=False)
        self._client.delete_table(TableName=leftover.name)
        self._client.get_waiter("table_not_exists").wait(
            TableName=leftover.name, WaiterConfig={"Delay": 2, "MaxAttempts": 150}
        )

    def _tags(self, name: str) -> list[Mapping[str, Any]]:
        arn = self._client.describe_table(TableName=name)["Table"]["TableArn"]
        pages = self._client.get_paginator("list_tags_of_resource").paginate(ResourceArn=arn)
        return [tag for page in pages for tag in page["Tags"]]


class Repositories:
    """ECR repositories."""

    title = "image repository"

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._client = scope.session.client("ecr")

    def find(self) -> Iterator[Leftover]:
        """Yield the app's repositories with the compressed size of their images."""
        pages = self._client.get_paginator("describe_repositories").paginate()
        listed = [repository for page in pages for repository in page["repositories"]]
        for repository in self._scope.owned(
            listed,
            lambda found: self._client.list_tags_for_resource(resourceArn=found["repositoryArn"])["tags"],
        ):
            name = repository["repositoryName"]
            images = [
                image
                for page in self._client.get_paginator("describe_images").paginate(repositoryName=name)
                for image in page["imageDetails"]
            ]
            stored = sum(image.get("imageSizeInBytes", 0) for image in images)
            yield Leftover(
                self.title,
                name,
                f"{len(images)} images, {size(stored)}",
                usd_month=self._scope.prices.storage_month("ecr", stored),
                holds_data=bool(images),
            )

    def remove(self, leftover: Leftover) -> None:
        """Delete a repository with its images."""
        self._client.delete_repository(repositoryName=leftover.name, force=True)


class Keys:
    """KMS keys, also those that are scheduled for deletion: they cost nothing and go by themselves."""

    title = "key"

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._client = scope.session.client("kms")

    def find(self) -> Iterator[Leftover]:
        """Yield the app's keys."""
        listed = [
            key["KeyId"]
            for page in self._client.get_paginator("list_keys").paginate()
            for key in page["Keys"]
        ]
        for key in self._scope.owned(listed, self._tags):
            described = self._client.describe_key(KeyId=key)["KeyMetadata"]
            if described["KeyState"] == "PendingDeletion":
                gone = described.get("DeletionDate")
                shown = f"pending deletion until {gone:%Y-%m-%d}" if gone else "pending deletion"
                yield Leftover(self.title, key, shown, expiring=True)
            else:
                month = self._scope.prices.per_month["kms_key"].usd
                yield Leftover(self.title, key, described["KeyState"], usd_month=month, holds_data=True)

    def remove(self, leftover: Leftover) -> None:
        """Schedule a key for deletion and delete its names; what it locks can never be read again."""
        for page in self._client.get_paginator("list_aliases").paginate(KeyId=leftover.name):
            for alias in page["Aliases"]:
                self._client.delete_alias(AliasName=alias["AliasName"])
        self._client.schedule_key_deletion(KeyId=leftover.name, PendingWindowInDays=KEY_WAITING_DAYS)

    def _tags(self, key: str) -> list[Mapping[str, Any]]:
        try:
            pages = self._client.get_paginator("list_resource_tags").paginate(KeyId=key)
            return [tag for page in pages for tag in page["Tags"]]
        except AwsError as error:
            # The policies of other people's keys, and of AWS's own, may deny even this.
            if code_of(error) in ("AccessDeniedException", "AccessDenied"):
                return []
            raise
