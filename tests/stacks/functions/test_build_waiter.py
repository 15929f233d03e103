"""The function as CloudFormation's framework calls it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from stacks.functions.build_waiter import index
from tests.stacks.functions.codebuild import FakeCodeBuild, serve_codebuild
from tests.support.local_aws import LocalAws

PROPERTIES = {"ProjectName": "stage", "Fingerprint": "1", "Environment": {"MODEL": "org/m", "BUCKET": "b"}}


@pytest.fixture
def codebuild(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCodeBuild]:
    with serve_codebuild() as fake:
        environment = {
            "AWS_ENDPOINT_URL": fake.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield fake


def event(kind: str, request_id: str = "r-1", **fields: Any) -> dict[str, Any]:
    """An event of the framework."""
    return {"RequestType": kind, "RequestId": request_id, "ResourceProperties": PROPERTIES, **fields}


def start(kind: str = "Create", request_id: str = "r-1", **fields: Any) -> dict[str, Any]:
    """What `is_complete` is asked with: the event and the answer of `on_event` in one."""
    asked = event(kind, request_id, **fields)
    return {**asked, **index.on_event(asked, None)}


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_starts_a_build_and_waits_for_it(codebuild: FakeCodeBuild, kind: str) -> None:
    waiting = start(kind, OldResourceProperties={**PROPERTIES, "Fingerprint": "0"})
    assert waiting["PhysicalResourceId"] == "stage"
    assert waiting["Data"] == {"BuildId": "stage:1"}
    variables = codebuild.started[0]["environmentVariablesOverride"]
    assert variables == [
        {"name": "BUCKET", "value": "b", "type": "PLAINTEXT"},
        {"name": "MODEL", "value": "org/m", "type": "PLAINTEXT"},
    ]
    assert index.is_complete(waiting, None) == {"IsComplete": False}
    codebuild.builds["stage:1"]["buildStatus"] = "SUCCEEDED"
    assert index.is_complete(waiting, None) == {"IsComplete": True, "Data": {"BuildId": "stage:1"}}


def test_a_request_that_comes_twice_gets_the_same_build(codebuild: FakeCodeBuild) -> None:
    assert start()["Data"] == start()["Data"]
    assert start(request_id="r-2")["Data"] != start()["Data"]
    assert len(codebuild.started) == 2


def test_an_update_that_changes_nothing_a_build_depends_on_starts_none(codebuild: FakeCodeBuild) -> None:
    waiting = start("Update", OldResourceProperties={**PROPERTIES, "ServiceTimeout": "1"})
    assert waiting["PhysicalResourceId"] == "stage"
    assert index.is_complete(waiting, None) == {"IsComplete": True}
    assert codebuild.started == []


def test_delete_does_nothing(codebuild: FakeCodeBuild) -> None:
    waiting = start("Delete", PhysicalResourceId="stage")
    assert waiting["PhysicalResourceId"] == "stage"
    assert index.is_complete(waiting, None) == {"IsComplete": True}
    assert codebuild.started == []


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (None, "Error while executing command: python -m staging. Reason: exit status 1"),
        (["downloading", "something else"], "Error while executing command: python -m staging."),
        (["x", "staging: model org/m is gated: accept its terms\n"], "staging: model org/m is gated"),
    ],
)
def test_a_failed_build_is_one_line(codebuild: FakeCodeBuild, log: list[str] | None, reason: str) -> None:
    codebuild.log = log
    waiting = start()
    codebuild.fail(
        "stage:1", message="Error while executing command:\n python -m staging. Reason: exit status 1"
    )
    with pytest.raises(RuntimeError) as failure:
        index.is_complete(waiting, None)
    line = str(failure.value)
    assert line.startswith(f"build stage:1: FAILED in BUILD: {reason}")
    assert line.endswith("(https://logs.example/1)")
    assert "\n" not in line


def test_a_long_reason_leaves_room_for_the_link(codebuild: FakeCodeBuild) -> None:
    waiting = start()
    codebuild.fail("stage:1", status="TIMED_OUT", message="x" * 5000)
    with pytest.raises(RuntimeError, match=r"TIMED_OUT in BUILD: x{500} \(https://logs\.example/1\)$"):
        index.is_complete(waiting, None)


def test_a_stopped_build_without_a_reason(codebuild: FakeCodeBuild) -> None:
    waiting = start()
    codebuild.builds["stage:1"] |= {"buildStatus": "STOPPED", "logs": {}, "phases": []}
    with pytest.raises(RuntimeError, match=r"^build stage:1: STOPPED: no reason given \(no log\)$"):
        index.is_complete(waiting, None)


def test_a_build_that_is_gone(codebuild: FakeCodeBuild) -> None:
    waiting = start()
    codebuild.builds.clear()
    with pytest.raises(RuntimeError, match=r"^build stage:1 is gone$"):
        index.is_complete(waiting, None)


def test_a_moment_of_trouble_is_waited_out(codebuild: FakeCodeBuild, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boto3's own attempts are used up, and still the resource does not fail."""
    monkeypatch.setattr(index, "CONFIG", index.CONFIG.merge(Config(retries={"total_max_attempts": 1})))
    waiting = start()
    codebuild.refuse = [(400, "ThrottlingException")]
    assert index.is_complete(waiting, None) == {"IsComplete": False}
    codebuild.refuse = [(400, "AccessDeniedException")]
    with pytest.raises(Exception, match="AccessDenied"):
        index.is_complete(waiting, None)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert index.is_complete(waiting, None) == {"IsComplete": False}


def test_against_moto(aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    boto3.client("codebuild").create_project(
        name="stage",
        source={"type": "S3", "location": "assets/staging.zip"},
        artifacts={"type": "S3", "location": "artifacts"},
        environment={
            "type": "LINUX_CONTAINER",
            "image": "aws/codebuild/standard:7.0",
            "computeType": "BUILD_GENERAL1_LARGE",
        },
        serviceRole="arn:aws:iam::123456789012:role/service-role/build",
    )
    waiting = start()
    assert index.is_complete(waiting, None) == {"IsComplete": True, "Data": waiting["Data"]}
