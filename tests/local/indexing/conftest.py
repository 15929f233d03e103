"""Fixtures: a deployment as CloudFormation tells of it, in an AWS on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from client.aws import open_session
from tests.support.local_aws import LocalAws, serve_aws

BUCKET = "ock-bucket"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/openchatkit:1"
ROLE = "arn:aws:iam::123456789012:role/indexing"
KEY = "arn:aws:kms:us-east-1:123456789012:key/0b8a1b4e"


@pytest.fixture(scope="session")
def aws_server() -> Iterator[LocalAws]:
    with serve_aws() as server:
        yield server


@pytest.fixture
def aws(aws_server: LocalAws, monkeypatch: pytest.MonkeyPatch) -> LocalAws:
    """AWS on this machine, empty, and an environment in which boto3 knows nothing else."""
    aws_server.take_over(monkeypatch)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    return aws_server


@pytest.fixture
def deployed(aws: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalAws:
    """A deployment named Chat: its folder, its stacks with their outputs, its bucket."""
    (tmp_path / "cdk.json").write_text('{"context": {"name": "Chat"}}')
    monkeypatch.chdir(tmp_path)
    stack("Storage", BucketName=BUCKET, KeyArn=KEY)
    stack("Image", Image=IMAGE, IndexingRoleArn=ROLE)
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    return aws


def stack(part: str, **outputs: str) -> None:
    """Put a stack with these outputs into CloudFormation."""
    template = {
        "Resources": {"It": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {name: {"Value": value} for name, value in outputs.items()},
    }
    open_session().client("cloudformation").create_stack(
        StackName=f"Chat-{part}", TemplateBody=json.dumps(template)
    )
