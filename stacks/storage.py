"""What outlives an endpoint: the key, the bucket of weights, the table of conversations, the network.

The network is here although only the endpoint uses it: SageMaker lets go of its network interfaces some
minutes after an endpoint is gone, and this stack is the last to be destroyed.
"""

from __future__ import annotations

from aws_cdk import Duration, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.acknowledged import acknowledge
from stacks.bucket_emptier import BucketEmptier
from stacks.indexing import WORK_PREFIX
from stacks.network import Network, network_of
from stacks.settings import DeploySettings
from stacks.stack import AppStack

OWNER_INDEX = "owner-updated_at-index"
"""As `handler/openchatkit/stores/dynamodb_table.py` reads it; a test compares the two tables."""
KEY_DELETION_DAYS = 7
"""The shortest that KMS allows; a key that is scheduled for deletion costs nothing."""
UPLOAD_DAYS = 7
OLD_VERSION_DAYS = 30
INDEXING_DAYS = 14
"""How long documents and shards of a job that builds an index are kept."""


class StorageStack(AppStack):
    """Key, bucket, table and, where asked for, the network."""

    def __init__(self, scope: Construct, settings: DeploySettings) -> None:
        super().__init__(scope, settings, "Storage", "weights, conversations, network")
        self.key = _key(self, settings)
        self.bucket = _bucket(self, settings, self.key)
        self.table = _table(self, settings, self.key)
        self.network: Network | None = network_of(self, settings)
        if settings.removal == "destroy" and settings.empty_on_destroy:
            BucketEmptier(self, "BucketEmptier", bucket=self.bucket)
        self.output("BucketName", self.bucket.bucket_name, "Where the weights are")
        self.output("KeyArn", self.key.key_arn, "What encrypts them")
        self.output("TableName", self.table.table_name, "Where the conversations are")


def _key(stack: AppStack, settings: DeploySettings) -> kms.Key:
    key = kms.Key(
        stack,
        "Key",
        description=f"{settings.name}: weights, conversations, alarms",
        enable_key_rotation=True,
        removal_policy=stack.removal_policy,
        pending_window=Duration.days(KEY_DELETION_DAYS),
    )
    if settings.alarm_email:
        # CloudWatch publishes to an encrypted topic with the key's own consent only.
        key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsOfThisAccount",
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=["*"],  # in a key's policy: this key
                conditions={"StringEquals": {"aws:SourceAccount": Stack.of(stack).account}},
            )
        )
    return key


def _bucket(stack: AppStack, settings: DeploySettings, key: kms.Key) -> s3.Bucket:
    bucket = s3.Bucket(
        stack,
        "Bucket",
        encryption=s3.BucketEncryption.KMS,
        encryption_key=key,
        bucket_key_enabled=True,
        block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
        object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
        enforce_ssl=True,
        versioned=True,
        removal_policy=stack.removal_policy,
        lifecycle_rules=[
            s3.LifecycleRule(
                id="what-nobody-reads",
                abort_incomplete_multipart_upload_after=Duration.days(UPLOAD_DAYS),
                noncurrent_version_expiration=Duration.days(OLD_VERSION_DAYS),
                expired_object_delete_marker=True,
            ),
            s3.LifecycleRule(
                id="what-jobs-read-and-wrote",
                prefix=WORK_PREFIX,
                expiration=Duration.days(INDEXING_DAYS),
                noncurrent_version_expiration=Duration.days(1),
            ),
        ],
    )
    acknowledge(
        bucket,
        {
            "S1": "The bucket holds public model weights, documents and their indexes, no conversations; who "
            "reads them is in CloudTrail where the account logs data events."
        },
    )
    return bucket


def _table(stack: AppStack, settings: DeploySettings, key: kms.Key) -> dynamodb.Table:
    table = dynamodb.Table(
        stack,
        "Conversations",
        partition_key=dynamodb.Attribute(name="session_id", type=dynamodb.AttributeType.STRING),
        sort_key=dynamodb.Attribute(name="turn", type=dynamodb.AttributeType.NUMBER),
        billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
        time_to_live_attribute="expires_at",
        encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED,
        encryption_key=key,
        point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
            point_in_time_recovery_enabled=True
        ),
        deletion_protection=settings.removal == "retain",
        removal_policy=stack.removal_policy,
    )
    table.add_global_secondary_index(
        index_name=OWNER_INDEX,
        partition_key=dynamodb.Attribute(name="owner", type=dynamodb.AttributeType.STRING),
        sort_key=dynamodb.Attribute(name="updated_at", type=dynamodb.AttributeType.NUMBER),
    )
    return table
