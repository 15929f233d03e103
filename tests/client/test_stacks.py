"""Stacks and the endpoint's switch, against CloudFormation as moto plays it."""

from __future__ import annotations

import json
import re
from typing import Any

import boto3
import pytest

from client import stacks
from client.aws import open_session
from client.errors import CallFailed
from client.stacks import EndpointSwitch, Stack, StackEvent
from tests.support.local_aws import LocalAws
from tests.support.refusing_aws import serve_refusals

NAME = "Chat-Endpoint"
TEMPLATE: dict[str, Any] = {
    "Parameters": {
        "EndpointEnabled": {"Type": "String", "Default": "true", "AllowedValues": ["true", "false"]},
        "Kept": {"Type": "String", "Default": "as it was"},
    },
    "Conditions": {"IsOn": {"Fn::Equals": [{"Ref": "EndpointEnabled"}, "true"]}},
    "Resources": {
        "Endpoint": {"Type": "AWS::SQS::Queue", "Condition": "IsOn", "Properties": {"QueueName": "endpoint"}},
        "Table": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "kept"}},
    },
}


@pytest.fixture
def session(aws: LocalAws) -> boto3.Session:
    return open_session()


@pytest.fixture
def deployed(session: boto3.Session) -> boto3.Session:
    session.client("cloudformation").create_stack(
        StackName=NAME,
        TemplateBody=json.dumps(TEMPLATE),
        Parameters=[{"ParameterKey": "Kept", "ParameterValue": "by hand"}],
    )
    return session


def endpoints(session: boto3.Session) -> list[str]:
    queues: list[str] = session.client("sqs").list_queues().get("QueueUrls", [])
    return queues


def parameters(session: boto3.Session) -> dict[str, str]:
    described = session.client("cloudformation").describe_stacks(StackName=NAME)["Stacks"][0]
    return {entry["ParameterKey"]: entry["ParameterValue"] for entry in described["Parameters"]}


def test_off_and_on_again(deployed: boto3.Session) -> None:
    switch = EndpointSwitch(deployed, NAME)
    assert switch.is_on()
    assert switch.turn(on=False)
    assert not switch.is_on()
    assert endpoints(deployed) == []
    assert parameters(deployed) == {"EndpointEnabled": "false", "Kept": "by hand"}
    assert not switch.turn(on=False), "it is off already"
    assert switch.turn(on=True)
    assert len(endpoints(deployed)) == 1
    assert parameters(deployed) == {"EndpointEnabled": "true", "Kept": "by hand"}
    assert not switch.turn(on=True), "it is on already"


def test_a_later_deployment_leaves_it_off(deployed: boto3.Session) -> None:
    EndpointSwitch(deployed, NAME).turn(on=False)
    changed = {**TEMPLATE, "Resources": {**TEMPLATE["Resources"], "New": {"Type": "AWS::SNS::Topic"}}}
    deployed.client("cloudformation").update_stack(
        StackName=NAME,
        TemplateBody=json.dumps(changed),
        Parameters=[{"ParameterKey": name, "UsePreviousValue": True} for name in TEMPLATE["Parameters"]],
    )
    assert endpoints(deployed) == []
    assert EndpointSwitch(deployed, NAME).turn(on=True)
    assert len(endpoints(deployed)) == 1


def test_no_stack(session: boto3.Session) -> None:
    assert Stack(session, NAME).describe() is None
    assert Stack(session, NAME).trouble() is None
    with pytest.raises(CallFailed, match=r"^there is no stack Chat-Endpoint in us-east-1: deploy it first"):
        EndpointSwitch(session, NAME).turn(on=False)


def test_a_stack_without_the_switch(session: boto3.Session) -> None:
    template = {"Resources": {"Table": {"Type": "AWS::SNS::Topic"}}}
    session.client("cloudformation").create_stack(StackName=NAME, TemplateBody=json.dumps(template))
    with pytest.raises(CallFailed, match=r"has no parameter EndpointEnabled: deploy it again"):
        EndpointSwitch(session, NAME).turn(on=False)


def test_resources_by_type(deployed: boto3.Session) -> None:
    assert Stack(deployed, NAME).resources("AWS::SNS::Topic") == {
        "Table": "arn:aws:sns:us-east-1:123456789012:kept"
    }
    assert Stack(deployed, NAME).resources("AWS::S3::Bucket") == {}


def test_waiting_reports_each_event_once(deployed: boto3.Session) -> None:
    stack = Stack(deployed, NAME)
    known: set[str] = set()
    before = list(stack.events(known))
    assert before
    EndpointSwitch(deployed, NAME).turn(on=False)
    reported: list[StackEvent] = []
    assert stack.wait(reported.append, known) == "UPDATE_COMPLETE"
    assert [event.status for event in reported if event.resource == NAME] == [
        "UPDATE_IN_PROGRESS",
        "UPDATE_COMPLETE",
    ]
    assert re.match(r"\d\d:\d\d:\d\d  UPDATE_IN_PROGRESS", str(reported[0]))
    assert list(stack.events(known)) == []


def described(status: str) -> bytes:
    return f"""<DescribeStacksResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/">
    <DescribeStacksResult><Stacks><member><StackName>{NAME}</StackName><StackStatus>{status}</StackStatus>
    <CreationTime>2026-11-22T00:00:00Z</CreationTime><Parameters><member>
    <ParameterKey>EndpointEnabled</ParameterKey><ParameterValue>true</ParameterValue></member></Parameters>
    </member></Stacks></DescribeStacksResult></DescribeStacksResponse>""".encode()


def refused(code: str, message: str) -> bytes:
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return f"<ErrorResponse>{error}</ErrorResponse>".encode()


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("UPDATE_IN_PROGRESS", "wait until that is done"),
        ("UPDATE_ROLLBACK_IN_PROGRESS", "wait until that is done"),
        ("ROLLBACK_COMPLETE", "delete it and deploy again"),
        ("UPDATE_ROLLBACK_FAILED", "cdk rollback"),
    ],
)
def test_a_stack_that_takes_no_update(status: str, advice: str) -> None:
    with serve_refusals(lambda _: (200, described(status))) as server:
        switch = EndpointSwitch(open_session(), NAME)
        with pytest.raises(CallFailed, match=f"^{NAME} is {status}: .*{advice}"):
            switch.turn(on=False)
    assert "UpdateStack" not in server.seen


def test_an_update_that_another_one_overtook() -> None:
    """Between looking and acting somebody else began: AWS's refusal becomes one line."""
    message = f"Stack:{NAME} is in UPDATE_IN_PROGRESS state and can not be updated."

    def answer(action: str) -> tuple[int, bytes]:
        if action == "UpdateStack":
            return 400, refused("ValidationError", message)
        return 200, described("UPDATE_COMPLETE")

    with (
        serve_refusals(answer),
        pytest.raises(CallFailed, match="UPDATE_IN_PROGRESS state") as raised,
    ):
        EndpointSwitch(open_session(), NAME).turn(on=False)
    assert "\n" not in str(raised.value)


def test_nothing_to_update_is_no_error() -> None:
    def answer(action: str) -> tuple[int, bytes]:
        if action == "UpdateStack":
            return 400, refused("ValidationError", "No updates are to be performed.")
        return 200, described("UPDATE_COMPLETE")

    with serve_refusals(answer):
        assert EndpointSwitch(open_session(), NAME).turn(on=False) is False


def test_waiting_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "WAIT_LIMIT_S", 0)
    monkeypatch.setattr(stacks, "FIRST_POLL_S", 0.01)
    listed = b"<DescribeStackEventsResult><StackEvents/></DescribeStackEventsResult>"
    events = b"<DescribeStackEventsResponse>%s</DescribeStackEventsResponse>" % listed

    def answer(action: str) -> tuple[int, bytes]:
        return 200, events if action == "DescribeStackEvents" else described("UPDATE_IN_PROGRESS")

    with serve_refusals(answer), pytest.raises(CallFailed, match="still UPDATE_IN_PROGRESS after"):
        Stack(open_session(), NAME).wait(lambda _: None, set())


def test_what_a_stack_tells_about_itself(session: boto3.Session) -> None:
    template = {**TEMPLATE, "Outputs": {"TopicName": {"Value": "kept"}}}
    session.client("cloudformation").create_stack(StackName=NAME, TemplateBody=json.dumps(template))
    assert Stack(session, NAME).outputs() == {"TopicName": "kept"}
    with pytest.raises(CallFailed, match="there is no stack Nowhere"):
        Stack(session, "Nowhere").outputs()
