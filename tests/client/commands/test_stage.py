"""`ock stage`: what it finds, the build that it runs and follows, and the program on this machine."""

from __future__ import annotations

import json
import sys

import pytest

from client import builds
from client.aws import open_session
from client.builds import Builds
from client.errors import CallFailed
from tests.client.conftest import Run
from tests.support.hub import serve_hub
from tests.support.local_aws import LocalAws
from tests.support.refusing_aws import serve_refusals

CHAT = "togethercomputer/GPT-NeoXT-Chat-Base-20B"
JUDGE = "togethercomputer/GPT-JT-Moderation-6B"
COMMITS = ("-c", f"chat_revision={'a' * 40}", "-c", f"moderation_revision={'b' * 40}")
BUCKET = "weights-here"
PROJECT = {
    "Type": "AWS::CodeBuild::Project",
    "Properties": {
        "Name": "staging",
        "Source": {"Type": "S3", "Location": "bucket/key"},
        "Artifacts": {"Type": "NO_ARTIFACTS"},
        "Environment": {"Type": "LINUX_CONTAINER", "Image": "i", "ComputeType": "BUILD_GENERAL1_LARGE"},
        "ServiceRole": "arn:aws:iam::123456789012:role/any",
    },
}


def deploy(part: str, resource: object) -> None:
    open_session().client("cloudformation").create_stack(
        StackName=f"Chat-{part}", TemplateBody=json.dumps({"Resources": {"It": resource}})
    )


@pytest.fixture
def storage(aws: LocalAws) -> None:
    deploy("Storage", {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": BUCKET}})


def put_manifest(model: str, revision: str, content: bytes) -> None:
    key = f"weights/{model}/{revision}/manifest.json"
    open_session().client("s3").put_object(Bucket=BUCKET, Key=key, Body=content)


def test_without_a_bucket(operate: Run, aws: LocalAws) -> None:
    result = operate("stage", *COMMITS)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: the stack Chat-Storage is not deployed: `cdk deploy Chat-Storage")


@pytest.mark.usefixtures("storage")
def test_a_commit_that_is_not_pinned(operate: Run) -> None:
    result = operate("stage", "--status")
    assert result.exit_code == 1
    assert "chat_revision is not set" in result.stderr


@pytest.mark.usefixtures("storage")
def test_status(operate: Run) -> None:
    result = operate("stage", "--status", *COMMITS)
    assert result.exit_code == 1
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["missing", CHAT],
        ["missing", JUDGE],
    ]
    put_manifest(CHAT, "a" * 40, b'{"files": [1, 2], "total_size": 41100000000}')
    put_manifest(JUDGE, "b" * 40, b"[]")
    result = operate("stage", "--status", *COMMITS)
    assert result.exit_code == 0
    assert f"staged   {CHAT} at aaaaaaaaaaaa: 2 files, 41.1 GB" in result.stdout
    assert "with a manifest of another format" in result.stdout
    assert operate("stage", *COMMITS).exit_code == 0, "nothing is left to stage"


@pytest.mark.usefixtures("storage")
def test_a_build_that_leaves_no_manifest_is_an_error(operate: Run) -> None:
    assert "there is no stack Chat-Weights" in operate("stage", *COMMITS).stderr
    deploy("Weights", PROJECT)
    result = operate("stage", *COMMITS)
    assert result.exit_code == 1
    assert f"{CHAT}: starting a build of staging" in result.stdout
    assert "[completed]" in result.stdout
    assert result.stderr == "Error: staging ended, but a manifest is still missing\n"
    assert len(open_session().client("codebuild").list_builds_for_project(projectName="staging")["ids"]) == 2


@pytest.mark.usefixtures("storage")
def test_on_this_machine_the_program_runs(operate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_hub() as hub:  # it has no such model
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        result = operate("stage", "--local", *COMMITS)
    assert any(CHAT in request.path for request in hub.requests)
    assert result.exit_code == 1
    assert result.stderr.endswith(f"Error: staging {CHAT} failed with exit status 1\n")


@pytest.mark.usefixtures("storage")
def test_on_this_machine_without_the_program(operate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "staging", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "not installed here" in operate("stage", "--local", *COMMITS).stderr


def test_local_and_status_exclude_each_other(operate: Run) -> None:
    assert operate("stage", "--local", "--status").exit_code == 2


class Script:
    """CodeBuild and its log, as a list of moments."""

    def __init__(self, *moments: dict[str, object]) -> None:
        self.moments = list(moments)
        self.started: list[str] = []

    def __call__(self, action: str) -> tuple[int, bytes]:
        if action == "BatchGetBuilds":
            moment = self.moments.pop(0) if len(self.moments) > 1 else self.moments[0]
            build = {
                "id": "staging:1",
                "logs": {"groupName": "g", "streamName": "s", "deepLink": "https://log"},
            }
            return 200, json.dumps({"builds": [{**build, **moment}]}).encode()
        if action == "GetLogEvents":
            return 200, json.dumps(
                {"events": [{"message": "75 %\x1b[2J\n"}], "nextForwardToken": "t", "nextBackwardToken": "b"}
            ).encode()
        return 400, b'{"__type": "Unexpected"}'


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds, "FIRST_POLL_S", 0.01)


def test_a_build_is_followed_to_its_end() -> None:
    script = Script(
        {"buildStatus": "IN_PROGRESS", "currentPhase": "BUILD"},
        {"buildStatus": "SUCCEEDED", "currentPhase": "COMPLETED"},
    )
    lines: list[str] = []
    with serve_refusals(script):
        Builds(open_session(), "staging").follow("staging:1", lines.append)
    assert lines[:2] == ["[build]", "75 %�[2J"]
    assert "[completed]" in lines


def test_a_build_that_fails_names_phase_reason_and_log() -> None:
    failed = {"phaseType": "BUILD", "phaseStatus": "FAILED", "contexts": [{"message": "exit\nstatus 1"}]}
    script = Script(
        {"buildStatus": "FAILED", "currentPhase": "COMPLETED", "phases": [{"phaseType": "QUEUED"}, failed]}
    )
    with serve_refusals(script), pytest.raises(CallFailed) as raised:
        Builds(open_session(), "staging").follow("staging:1", lambda _: None)
    assert str(raised.value) == "build staging:1: failed in build: exit status 1; log: https://log"


def test_a_build_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds, "WAIT_LIMIT_S", 0)
    with (
        serve_refusals(Script({"buildStatus": "IN_PROGRESS", "currentPhase": "BUILD"})),
        pytest.raises(CallFailed, match="still runs after"),
    ):
        Builds(open_session(), "staging").follow("staging:1", lambda _: None)


@pytest.mark.parametrize(("model", "found"), [("org/model", "staging:1"), ("org/other", None)])
def test_a_build_under_way_is_found_again(model: str, found: str | None) -> None:
    running = {
        "id": "staging:1",
        "buildStatus": "IN_PROGRESS",
        "environment": {"environmentVariables": [{"name": "MODEL", "value": "org/model"}]},
    }

    def answer(action: str) -> tuple[int, bytes]:
        body = {"ids": ["staging:1"]} if action == "ListBuildsForProject" else {"builds": [running]}
        return 200, json.dumps(body).encode()

    with serve_refusals(answer):
        assert Builds(open_session(), "staging").running({"MODEL": model}) == found
