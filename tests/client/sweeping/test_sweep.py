"""Sweeping: everything of the app is found, nothing of others, and all of it can be removed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import boto3
import pytest

from client.aws import open_session
from client.errors import CallFailed
from client.sweeping.leftover import Leftover, Scope
from client.sweeping.sweep import Findings, remove, sweep, type_of
from tests.support.local_aws import LocalAws

APP = "Chat"
TAG = "openchatkit:app"
STACKS = ("Chat-Monitoring", "Chat-Endpoint", "Chat-Weights", "Chat-Image", "Chat-Storage")
ROLE = "arn:aws:iam::123456789012:role/any"


@pytest.fixture
def session(aws: LocalAws) -> boto3.Session:
    return open_session()


@pytest.fixture
def scope(session: boto3.Session) -> Scope:
    return Scope(session, app=APP, stacks=STACKS, endpoint="chat", tag=TAG)


def tags(app: str = APP) -> list[Any]:
    return [{"Key": TAG, "Value": app}]


def make_serving(session: boto3.Session, app: str, name: str) -> None:
    client = session.client("sagemaker")
    client.create_model(
        ModelName=name, PrimaryContainer={"Image": "i"}, ExecutionRoleArn=ROLE, Tags=tags(app)
    )
    client.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": "chat",
                "ModelName": name,
                "InstanceType": "ml.g4dn.12xlarge",
                "InitialInstanceCount": 2,
            }
        ],
        Tags=tags(app),
    )
    client.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=tags(app))


def make_data(session: boto3.Session, app: str, name: str) -> None:
    s3 = session.client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": tags(app)})
    for _ in range(2):
        s3.put_object(Bucket=name, Key="weights", Body=b"x" * 5000)
    s3.create_multipart_upload(Bucket=name, Key="unfinished")
    session.client("dynamodb").create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "session_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "session_id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        DeletionProtectionEnabled=True,
        Tags=tags(app),
    )
    session.client("ecr").create_repository(repositoryName=name, tags=tags(app))
    kms = session.client("kms")
    key = kms.create_key(Tags=[{"TagKey": TAG, "TagValue": app}])["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName=f"alias/{name}", TargetKeyId=key)


def make_watching(session: boto3.Session, app: str, name: str) -> None:
    logs = session.client("logs")
    logs.create_log_group(logGroupName=f"/aws/sagemaker/Endpoints/{name}")
    logs.create_log_group(logGroupName=f"/own/{name}", tags={TAG: app})
    cloudwatch = session.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName=name,
        Namespace="AWS/SageMaker",
        MetricName="Invocation5XXErrors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
        Tags=tags(app),
    )
    cloudwatch.put_dashboard(DashboardName=f"{app}-Monitoring-Dashboard", DashboardBody="{}")
    session.client("sns").create_topic(Name=name, Tags=tags(app))
    session.client("scheduler").create_schedule(
        Name=f"{app}-Endpoint-Up",
        ScheduleExpression="rate(1 day)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": f"arn:aws:sns:us-east-1:123456789012:{name}", "RoleArn": ROLE},
    )


def make_network(session: boto3.Session, app: str, name: str) -> None:
    ec2 = session.client("ec2")

    def tagged(kind: str) -> list[Any]:
        return [{"ResourceType": kind, "Tags": tags(app)}]

    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16", TagSpecifications=tagged("vpc"))["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(VpcId=vpc, InternetGatewayId=gateway)
    ec2.create_route_table(VpcId=vpc)
    ec2.create_security_group(VpcId=vpc, GroupName=name, Description=name)
    ec2.create_vpc_endpoint(
        VpcId=vpc,
        ServiceName="com.amazonaws.us-east-1.sagemaker.runtime",
        VpcEndpointType="Interface",
        SubnetIds=[subnet],
        TagSpecifications=tagged("vpc-endpoint"),
    )
    address = ec2.allocate_address(Domain="vpc", TagSpecifications=tagged("elastic-ip"))
    ec2.create_nat_gateway(
        SubnetId=subnet,
        AllocationId=address["AllocationId"],
        TagSpecifications=tagged("natgateway"),
    )


def make_building(session: boto3.Session, app: str, name: str) -> None:
    session.client("codebuild").create_project(
        name=name,
        source={"type": "S3", "location": "bucket/key"},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={"type": "LINUX_CONTAINER", "image": "i", "computeType": "BUILD_GENERAL1_SMALL"},
        serviceRole=ROLE,
        tags=[{"key": TAG, "value": app}],
    )
    session.client("ssm").put_parameter(Name=f"/{name}/image", Value="uri", Type="String", Tags=tags(app))
    template = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"Tags": tags(app)}}}}
    session.client("cloudformation").create_stack(
        StackName=f"{app}-Storage", TemplateBody=json.dumps(template)
    )


MAKERS: Sequence[Callable[[boto3.Session, str, str], None]] = (
    make_serving,
    make_data,
    make_watching,
    make_network,
    make_building,
)


def make_all(session: boto3.Session, app: str, name: str) -> None:
    for make in MAKERS:
        make(session, app, name)


def counted(findings: Findings) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for leftover in findings.leftovers:
        counts[leftover.kind] = counts.get(leftover.kind, 0) + 1
    return counts


def test_an_empty_account_has_nothing(scope: Scope) -> None:
    findings = sweep(scope)
    assert findings == Findings()


def test_everything_of_the_app_is_found_and_nothing_of_another(session: boto3.Session, scope: Scope) -> None:
    make_all(session, APP, "chat")
    # Its name begins with ours: only tags and whole names of stacks may decide.
    make_all(session, "Chat-two", "chat-two")
    findings = sweep(scope)
    assert findings.failures == []
    assert findings.others == []
    assert counted(findings) == {
        "schedule": 1,
        "stack": 1,
        "endpoint": 1,
        "endpoint configuration": 1,
        "model": 1,
        "alarm": 1,
        "dashboard": 1,
        "topic": 1,
        "build project": 1,
        "parameter": 1,
        "image repository": 1,
        "table": 1,
        "bucket": 1,
        "log group": 2,
        "NAT gateway": 1,
        "VPC endpoint": 1,
        "address": 1,
        "network": 1,
        "key": 1,
    }
    by_kind = {leftover.kind: leftover for leftover in findings.leftovers}
    assert by_kind["endpoint"].detail == "InService, 2 x ml.g4dn.12xlarge"
    assert by_kind["endpoint"].usd_month == pytest.approx(2 * 4.89 * 730)
    assert by_kind["key"].usd_month == 1.0
    assert by_kind["bucket"].detail == "2 objects, 10 KB"
    assert by_kind["address"].usd_month is None
    assert findings.unpriced == 1
    assert findings.usd_month == pytest.approx(7139.4 + 1 + 0.1 + 3 + 32.85 + 7.3, abs=0.01)


def test_all_of_it_is_removed_and_the_neighbour_is_not(session: boto3.Session, scope: Scope) -> None:
    make_all(session, APP, "chat")
    make_all(session, "Chat-two", "chat-two")
    other_stacks = [name.replace("Chat-", "Chat-two-") for name in STACKS]
    neighbour = Scope(session, app="Chat-two", stacks=other_stacks, endpoint="chat-two", tag=TAG)
    before = counted(sweep(neighbour))
    outcomes: list[tuple[str, str]] = []
    failed = remove(
        scope,
        sweep(scope).leftovers,
        lambda leftover, outcome: outcomes.append((leftover.kind, outcome)),
    )
    assert failed == []
    assert {outcome for _, outcome in outcomes} == {"removed"}
    after = sweep(scope)
    assert after.remaining == []
    assert [(leftover.kind, leftover.usd_month) for leftover in after.leftovers] == [("key", 0.0)]
    assert after.leftovers[0].detail.startswith("pending deletion until 20")
    assert counted(sweep(neighbour)) == before


def test_schedules_and_stacks_go_first_and_keys_last(session: boto3.Session, scope: Scope) -> None:
    make_all(session, APP, "chat")
    order: list[str] = []
    remove(scope, reversed(sweep(scope).leftovers), lambda leftover, _: order.append(leftover.kind))
    assert order[:3] == ["schedule", "stack", "endpoint"]
    assert order.index("bucket") < order.index("key") == len(order) - 1
    assert order.index("table") < order.index("key")


def test_what_went_meanwhile_counts_as_removed(session: boto3.Session, scope: Scope) -> None:
    make_serving(session, APP, "chat")
    make_data(session, APP, "chat")
    found = sweep(scope).leftovers
    assert remove(scope, found, lambda *_: None) == []
    assert remove(scope, found, lambda *_: None) == []


def test_a_thing_of_a_kind_that_is_not_known_here_is_shown_apart(
    session: boto3.Session, scope: Scope
) -> None:
    session.client("sqs").create_queue(QueueName="left", tags={TAG: APP})
    findings = sweep(scope)
    assert findings.leftovers == []
    assert findings.others == ["arn:aws:sqs:us-east-1:123456789012:left"]


def test_a_service_that_refuses_is_named_and_does_not_hide_the_others(aws: LocalAws, scope: Scope) -> None:
    make_serving(scope.session, APP, "chat")
    iam = scope.session.client("iam")
    iam.create_user(UserName="auditor")
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["sagemaker:*", "sts:*"], "Resource": "*"}],
    }
    iam.put_user_policy(UserName="auditor", PolicyName="p", PolicyDocument=json.dumps(document))
    key = iam.create_access_key(UserName="auditor")["AccessKey"]
    aws.enforce_permissions()
    limited = boto3.Session(key["AccessKeyId"], key["SecretAccessKey"], region_name="us-east-1")
    findings = sweep(Scope(limited, app=APP, stacks=STACKS, endpoint="chat", tag=TAG))
    assert counted(findings) == {"endpoint": 1, "endpoint configuration": 1, "model": 1}
    assert any(line.startswith("bucket: not allowed to call ListBuckets") for line in findings.failures)


def test_credentials_that_aws_does_not_take_end_it_at_once(aws: LocalAws, scope: Scope) -> None:
    aws.enforce_permissions()
    with pytest.raises(CallFailed, match=r"does not accept the credentials .*aws configure"):
        sweep(scope)


def test_one_that_cannot_be_removed_does_not_stop_the_rest(session: boto3.Session, scope: Scope) -> None:
    make_serving(session, APP, "chat")
    role = Leftover("role", "Chat-Endpoint-Role", by_hand="roles belong to all regions")
    failed = remove(scope, [role, *sweep(scope).leftovers], lambda *_: None)
    assert failed == [
        "role Chat-Endpoint-Role: Chat-Endpoint-Role is not removed: roles belong to all regions"
    ]
    assert sweep(scope).leftovers == []


@pytest.mark.parametrize(
    ("arn", "expected"),
    [
        ("arn:aws:sagemaker:us-east-1:1:endpoint/chat", "sagemaker:endpoint"),
        ("arn:aws:logs:us-east-1:1:log-group:/aws/x", "logs:log-group"),
        ("arn:aws:s3:::bucket", "s3:"),
        ("arn:aws:sns:us-east-1:1:topic", "sns:"),
        ("arn:aws:cloudwatch:us-east-1:1:alarm:name", "cloudwatch:alarm"),
        ("nonsense", "nonsense"),
    ],
)
def test_type_of_an_arn(arn: str, expected: str) -> None:
    assert type_of(arn) == expected
