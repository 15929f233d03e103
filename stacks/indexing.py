"""What an index that SageMaker Processing builds needs of a deployment: a role, and nothing that costs.

`ock index build --on sagemaker` puts documents and the program into the bucket, starts a job with the image
and this role, and takes the shards away; what is left expires (`storage.INDEXING_DAYS`). Jobs have no
network.
"""

from __future__ import annotations

from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.acknowledged import acknowledge, resource_finding
from stacks.execution_role import NO_RESOURCE, PULL_ACTIONS, SERVICE, metrics_statement

WORK_PREFIX = "indexing/"
"""Where `ock index build` puts what a job reads, and a job its shards."""
DOCUMENTS_PREFIX = "documents/"
"""Where the bucket keeps documents that are indexed where they lie."""
LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
"""Of all processing jobs of an account; SageMaker makes it with the first one's role."""


class IndexingRole(Construct):
    """The role of the jobs; `role` is what they run with."""

    def __init__(
        self,
        scope: Construct,
        identifier: str,
        *,
        name: str,
        bucket: s3.Bucket,
        key: kms.Key,
        repository: ecr.IRepository | None,
    ) -> None:
        super().__init__(scope, identifier)
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal(SERVICE),
            description=f"SageMaker Processing: indexes of {name}",
        )
        self._allow_data(bucket, key)
        if repository is not None:
            self._allow(PULL_ACTIONS, repository.repository_arn)
            self._allow(["ecr:GetAuthorizationToken"], "*")
        self._allow_log()

    def _allow_data(self, bucket: s3.Bucket, key: kms.Key) -> None:
        read = [bucket.arn_for_objects(f"{prefix}*") for prefix in (WORK_PREFIX, DOCUMENTS_PREFIX)]
        self._allow(["s3:GetObject"], *read)
        self._allow(["s3:PutObject", "s3:AbortMultipartUpload"], read[0])
        self.role.add_to_policy(
            iam.PolicyStatement(
                actions=["s3:ListBucket"],
                resources=[bucket.bucket_arn],
                conditions={"StringLike": {"s3:prefix": [f"{WORK_PREFIX}*", f"{DOCUMENTS_PREFIX}*"]}},
            )
        )
        self._allow(["s3:GetBucketLocation"], bucket.bucket_arn)
        self._allow(["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"], key.key_arn)
        finding = resource_finding(self, bucket.bucket_arn, Stack.of(bucket))
        reason = "Names of documents and shards are known only when somebody indexes."
        acknowledge(self, {f"{finding}/{prefix}*]": reason for prefix in (WORK_PREFIX, DOCUMENTS_PREFIX)})

    def _allow_log(self) -> None:
        group = Stack.of(self).format_arn(
            service="logs",
            resource="log-group",
            resource_name=LOG_GROUP,
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
        actions = [
            "logs:CreateLogGroup",
            "logs:CreateLogStream",
            "logs:DescribeLogStreams",
            "logs:PutLogEvents",
        ]
        self._allow(actions, group, f"{group}:*")
        self.role.add_to_policy(metrics_statement())
        acknowledge(
            self,
            {
                f"{resource_finding(self, group)}:*]": "SageMaker names a job's log streams.",
                "IAM5[Resource::*]": NO_RESOURCE,
            },
        )

    def _allow(self, actions: list[str], *resources: str) -> None:
        self.role.add_to_policy(iam.PolicyStatement(actions=actions, resources=list(resources)))
