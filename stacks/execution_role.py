"""The rights of a container, in one place: what its role may do and nothing else.

Each model has a role of its own; the moderation's knows no conversations.
"""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_s3_assets as assets
from constructs import Construct

from stacks.acknowledged import acknowledge, resource_finding

SERVICE = "sagemaker.amazonaws.com"
METRIC_NAMESPACES = ["/aws/sagemaker/*", "AWS/SageMaker", "aws/sagemaker/*"]
PULL_ACTIONS = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
TABLE_ACTIONS = [
    *("dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem"),
    *("dynamodb:DeleteItem", "dynamodb:BatchWriteItem", "dynamodb:ConditionCheckItem"),
]
NETWORK_ACTIONS = [
    *("ec2:CreateNetworkInterface", "ec2:CreateNetworkInterfacePermission", "ec2:DeleteNetworkInterface"),
    *("ec2:DeleteNetworkInterfacePermission", "ec2:DescribeNetworkInterfaces", "ec2:DescribeVpcs"),
    *("ec2:DescribeDhcpOptions", "ec2:DescribeSubnets", "ec2:DescribeSecurityGroups"),
]
"""As SageMaker asks for them of a model in a VPC; EC2 limits the describing and creating ones to nothing."""


NO_RESOURCE = (
    "ecr:GetAuthorizationToken and cloudwatch:PutMetricData know no resource; "
    "the metrics are bound to SageMaker's namespaces."
)
"""Why a role of SageMaker has a wildcard."""


def metrics_statement() -> iam.PolicyStatement:
    """Return what lets an instance write its metrics, and no others."""
    return iam.PolicyStatement(
        actions=["cloudwatch:PutMetricData"],
        resources=["*"],
        conditions={"StringLike": {"cloudwatch:namespace": METRIC_NAMESPACES}},
    )


class ExecutionRole(Construct):
    """The role of a model; `role` is what the model is made with."""

    def __init__(self, scope: Construct, identifier: str, *, purpose: str) -> None:
        super().__init__(scope, identifier)
        self.role = iam.Role(
            self, "Role", assumed_by=iam.ServicePrincipal(SERVICE), description=f"SageMaker model: {purpose}"
        )

    def allow_start(
        self, *, bundle: assets.Asset, repository: ecr.IRepository | None, log: logs.LogGroup
    ) -> None:
        """Let it pull its image, read its bundle, and write its log and its instance's metrics."""
        self._allow(["s3:GetObject"], bundle.bucket.arn_for_objects(bundle.s3_object_key))
        if repository is not None:
            self._allow(PULL_ACTIONS, repository.repository_arn)
            self._allow(["ecr:GetAuthorizationToken"], "*")
        group = log.log_group_arn
        self._allow(["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"], group)
        self.role.add_to_policy(metrics_statement())
        acknowledge(
            self,
            {
                "IAM5[Resource::*]": f"{NO_RESOURCE} In a VPC: EC2 knows none "
                "for network interfaces that are still to be made.",
            },
        )

    def allow_weights(self, bucket: s3.Bucket, key: kms.Key, prefix: str) -> None:
        """Let it read the weights below a prefix that ends in a slash."""
        objects = bucket.arn_for_objects(f"{prefix}*")
        self._allow(["s3:GetObject"], objects)
        self.role.add_to_policy(
            iam.PolicyStatement(
                actions=["s3:ListBucket"],
                resources=[bucket.bucket_arn],
                conditions={"StringLike": {"s3:prefix": [prefix, f"{prefix}*", prefix.rstrip("/")]}},
            )
        )
        self._allow(["s3:GetBucketLocation"], bucket.bucket_arn)
        self._allow(["kms:Decrypt"], key.key_arn)
        finding = resource_finding(self, bucket.bucket_arn, Stack.of(bucket))
        acknowledge(self, {f"{finding}/{prefix}*]": "All files of one revision of one model."})

    def allow_conversations(self, table: dynamodb.Table, key: kms.Key) -> None:
        """Let it read and write conversations."""
        self._allow(TABLE_ACTIONS, table.table_arn)
        self._allow(["dynamodb:Query"], f"{table.table_arn}/index/*")
        self._allow(["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"], key.key_arn)
        finding = resource_finding(self, table.table_arn, Stack.of(table))
        acknowledge(self, {f"{finding}/index/*]": "The table has one index, by owner."})

    def allow_secrets(self, names: Sequence[str]) -> None:
        """Let it read secrets, by name or ARN."""
        # A secret's ARN ends in six characters that Secrets Manager has chosen.
        found = [
            name
            if name.startswith("arn:")
            else Stack.of(self).format_arn(
                service="secretsmanager",
                resource="secret",
                resource_name=f"{name}-??????",
                arn_format=ArnFormat.COLON_RESOURCE_NAME,
            )
            for name in names
        ]
        self._allow(["secretsmanager:GetSecretValue"], *found)

    def allow_invocation(self, endpoint_arn: str) -> None:
        """Let it ask the moderation variant of its own endpoint."""
        self._allow(["sagemaker:InvokeEndpoint"], endpoint_arn)

    def allow_network(self) -> None:
        """Let SageMaker attach it to a VPC."""
        self._allow(NETWORK_ACTIONS, "*")

    def _allow(self, actions: list[str], *resources: str) -> None:
        self.role.add_to_policy(iam.PolicyStatement(actions=actions, resources=list(resources)))
