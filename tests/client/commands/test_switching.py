"""`ock up` and `ock down`: what they say, and that they can be repeated."""

from __future__ import annotations

import json

import pytest

from client.aws import open_session
from tests.client.conftest import Run
from tests.client.test_stacks import TEMPLATE, described
from tests.support.local_aws import LocalAws
from tests.support.refusing_aws import serve_refusals


@pytest.fixture
def deployed(aws: LocalAws) -> None:
    open_session().client("cloudformation").create_stack(
        StackName="Chat-Endpoint", TemplateBody=json.dumps(TEMPLATE)
    )


@pytest.mark.usefixtures("deployed")
def test_down_and_up_again(operate: Run) -> None:
    down = operate("down", "--wait")
    assert down.exit_code == 0, down.output
    lines = down.stdout.splitlines()
    assert lines[0] == "chat: turning off (stack Chat-Endpoint)"
    assert any("UPDATE_COMPLETE" in line for line in lines)
    assert lines[-1] == "chat is off"
    again = operate("down")
    assert (again.exit_code, again.stdout) == (0, "chat is off already\n")
    up = operate("up")
    assert up.exit_code == 0
    assert up.stdout.startswith("chat: turning on (stack Chat-Endpoint)\n")
    assert "--wait" in up.stdout
    assert operate("up", "--wait").stdout == "chat is on already\n"


def test_without_a_deployment(operate: Run, aws: LocalAws) -> None:
    result = operate("down")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: there is no stack Chat-Endpoint in us-east-1: deploy it first (`cdk deploy --all`)\n"
    )
    assert operate("up", "--wait").stderr == result.stderr


def test_while_another_update_is_in_progress(operate: Run) -> None:
    with serve_refusals(lambda _: (200, described("UPDATE_IN_PROGRESS"))):
        result = operate("up")
    assert result.exit_code == 1
    assert result.stderr == "Error: Chat-Endpoint is UPDATE_IN_PROGRESS: wait until that is done\n"


def test_an_update_that_was_undone_names_its_cause(operate: Run) -> None:
    events = b"""<DescribeStackEventsResponse><DescribeStackEventsResult><StackEvents>%s</StackEvents>
    </DescribeStackEventsResult></DescribeStackEventsResponse>"""
    failed = b"""<member><EventId>2</EventId><StackId>s</StackId><StackName>n</StackName>
    <LogicalResourceId>Endpoint</LogicalResourceId><ResourceStatus>CREATE_FAILED</ResourceStatus>
    <ResourceStatusReason>no capacity for ml.g5.12xlarge</ResourceStatusReason>
    <Timestamp>2026-11-22T12:00:00Z</Timestamp></member>"""
    updated = False

    def answer(action: str) -> tuple[int, bytes]:
        nonlocal updated
        if action == "UpdateStack":
            updated = True
            return 200, b"<UpdateStackResponse><UpdateStackResult/></UpdateStackResponse>"
        if action == "DescribeStackEvents":
            return 200, events % (failed if updated else b"")
        return 200, described("UPDATE_ROLLBACK_COMPLETE" if updated else "UPDATE_COMPLETE")

    with serve_refusals(answer):
        result = operate("down", "--wait")
    assert result.exit_code == 1
    assert "12:00:00  CREATE_FAILED" in result.stdout
    assert result.stderr == (
        "Error: Chat-Endpoint is UPDATE_ROLLBACK_COMPLETE, the endpoint was not turned off: "
        "no capacity for ml.g5.12xlarge\n"
    )


def test_a_bad_setting_stops_before_any_call(operate: Run) -> None:
    with serve_refusals(lambda _: (500, b"")) as server:
        result = operate("down", "-c", "placment=variants")
    assert result.exit_code == 1
    assert "placment" in result.stderr
    assert server.seen == []
