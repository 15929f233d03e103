import boto3
from moto import mock_aws

from openchatkit.stores.dynamodb_table import create_table_if_missing
from tests.stacks.synthesis import PLAIN, synthesize


def test_the_table_is_the_one_that_the_handler_reads() -> None:
    table = synthesize(**PLAIN).only("Storage", "AWS::DynamoDB::Table")["Properties"]
    with mock_aws():
        client = boto3.client("dynamodb", region_name="us-east-1")
        create_table_if_missing(client, "own")
        own = client.describe_table(TableName="own")["Table"]
    assert table["KeySchema"] == own["KeySchema"]
    assert sorted(table["AttributeDefinitions"], key=str) == sorted(own["AttributeDefinitions"], key=str)
    wanted = own["GlobalSecondaryIndexes"][0]
    assert table["GlobalSecondaryIndexes"] == [
        {part: wanted[part] for part in ("IndexName", "KeySchema", "Projection")}
    ]
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["SSESpecification"]["SSEType"] == "KMS"


def test_conversations_are_protected_where_data_is_kept() -> None:
    for removal, protected in (("destroy", False), ("retain", True)):
        found = synthesize(**PLAIN, removal=removal)
        table = found.only("Storage", "AWS::DynamoDB::Table")["Properties"]
        assert table["DeletionProtectionEnabled"] is protected
        artifact = found.manifest()["artifacts"]["OpenChatKit-Storage"]["properties"]
        assert artifact.get("terminationProtection", False) is protected


def test_the_bucket_is_closed_encrypted_and_versioned() -> None:
    found = synthesize(**PLAIN)
    bucket = found.only("Storage", "AWS::S3::Bucket")["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    rule = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert rule["BucketKeyEnabled"] is True
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    lifecycle = bucket["LifecycleConfiguration"]["Rules"][0]
    assert lifecycle["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    policy = found.only("Storage", "AWS::S3::BucketPolicy")["Properties"]["PolicyDocument"]["Statement"]
    assert [
        one["Effect"] for one in policy if one["Condition"]["Bool"]["aws:SecureTransport"] == "false"
    ] == ["Deny"]


def test_the_key_is_rotated_and_goes_soon() -> None:
    key = synthesize(**PLAIN).only("Storage", "AWS::KMS::Key")["Properties"]
    assert key["EnableKeyRotation"] is True
    assert key["PendingWindowInDays"] == 7


def test_only_a_marked_bucket_is_emptied() -> None:
    emptied = synthesize(**{**PLAIN, "empty_on_destroy": True})
    resource = emptied.only("Storage", "Custom::EmptyBucket")
    mark = {"Key": "openchatkit:empty-on-delete", "Value": "true"}
    assert mark in emptied.only("Storage", "AWS::S3::Bucket")["Properties"]["Tags"]
    assert set(resource["Properties"]) >= {"ServiceToken", "BucketName"}
    # The rights go after the resource that needs them.
    policies = [
        name
        for part, name, one in emptied.all_resources()
        if part == "Storage" and one["Type"] in ("AWS::IAM::Policy", "AWS::S3::BucketPolicy")
    ]
    assert set(policies) <= set(resource["DependsOn"])
    for other in ({**PLAIN}, {**PLAIN, "empty_on_destroy": True, "removal": "retain"}):
        kept = synthesize(**other)
        assert kept.resources("Storage", "Custom::EmptyBucket") == []
        assert mark not in kept.only("Storage", "AWS::S3::Bucket")["Properties"]["Tags"]


def test_the_network_has_no_way_out() -> None:
    found = synthesize(**PLAIN, vpc="create")
    kinds = [resource["Type"] for part, _, resource in found.all_resources() if part == "Storage"]
    assert kinds.count("AWS::EC2::Subnet") == 2
    assert not {"AWS::EC2::InternetGateway", "AWS::EC2::NatGateway"} & set(kinds)
    endpoints = found.resources("Storage", "AWS::EC2::VPCEndpoint")
    assert sorted(one["Properties"]["VpcEndpointType"] for one in endpoints) == [
        "Gateway",
        "Gateway",
        "Interface",
    ]


def test_a_network_that_is_there_gets_a_closed_security_group() -> None:
    given = {"vpc": "vpc-0123abcd", "vpc_subnets": "subnet-0000000a,subnet-0000000b"}
    group = synthesize(**PLAIN, **given).only("Storage", "AWS::EC2::SecurityGroup")["Properties"]
    assert group["VpcId"] == "vpc-0123abcd"
    assert "SecurityGroupIngress" not in group
    assert [(rule["FromPort"], rule["ToPort"]) for rule in group["SecurityGroupEgress"]] == [(443, 443)]
    own = synthesize(**PLAIN, **given, vpc_security_groups="sg-0000000c")
    assert own.resources("Storage", "AWS::EC2::SecurityGroup") == []
    model = own.resources("Endpoint", "AWS::SageMaker::Model")[0]["Properties"]
    assert model["VpcConfig"] == {
        "SecurityGroupIds": ["sg-0000000c"],
        "Subnets": ["subnet-0000000a", "subnet-0000000b"],
    }
