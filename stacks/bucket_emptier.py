"""Empties a bucket before CloudFormation deletes it, by the function in `functions/empty_bucket`.

The CDK's own way (`auto_delete_objects`) deletes within one call of a function, fifteen minutes, and cannot
be left out where an account forbids functions; this one goes on until the bucket is empty, and
`empty_on_destroy: false` leaves it out.
"""

from __future__ import annotations

from aws_cdk import CustomResource, Duration, Tags
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.acknowledged import acknowledge, resource_finding
from stacks.waiting import Waiting

TAG = "openchatkit:empty-on-delete"
"""As `functions/empty_bucket/index.py` looks for it; without it that function deletes nothing."""
CALL_LIMIT = Duration.minutes(5)
TOTAL_LIMIT = Duration.minutes(55)


class BucketEmptier(Construct):
    """A custom resource that empties `bucket` when it is deleted itself."""

    def __init__(self, scope: Construct, identifier: str, *, bucket: s3.Bucket) -> None:
        super().__init__(scope, identifier)
        Tags.of(bucket).add(TAG, "true")
        waiting = Waiting(
            self,
            "Waiting",
            code="empty_bucket",
            description="Empties the bucket of weights when its stack is deleted",
            call_limit=CALL_LIMIT,
            total_limit=TOTAL_LIMIT,
            poll_every=Duration.seconds(5),
        )
        waiting.allow(
            ["s3:GetBucketTagging", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"],
            bucket.bucket_arn,
        )
        waiting.allow(
            ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:AbortMultipartUpload"],
            bucket.arn_for_objects("*"),
        )
        finding = f"{resource_finding(self, bucket.bucket_arn)}/*]"
        acknowledge(self, {finding: "The function empties the whole bucket."})
        resource = CustomResource(
            self,
            "Resource",
            service_token=waiting.service_token,
            resource_type="Custom::EmptyBucket",
            properties={"BucketName": bucket.bucket_name},
        )
        # Its rights must be there as long as it is.
        resource.node.add_dependency(waiting)
        if bucket.policy is not None:
            resource.node.add_dependency(bucket.policy)
