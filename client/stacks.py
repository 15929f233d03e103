"""CloudFormation stacks as the operating commands see them: state, resources, waiting, the switch.

The endpoint's stack has a parameter `EndpointEnabled`. Turning it is an update with the template that
is there, so nothing else changes, and the next `cdk deploy` keeps the value.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import ClientError as AwsError

from client.aws import code_of, failures
from client.errors import CallFailed
from client.terminal import one_line

if TYPE_CHECKING:
    from types_boto3_cloudformation.literals import CapabilityType
    from types_boto3_cloudformation.type_defs import StackTypeDef

ENABLED_PARAMETER = "EndpointEnabled"
WAIT_LIMIT_S = 2 * 3600
"""An update of an endpoint may take an hour for the new instances and another to roll back."""
FIRST_POLL_S = 0.5
LONGEST_POLL_S = 10.0
CAPABILITIES: Sequence[CapabilityType] = ("CAPABILITY_IAM", "CAPABILITY_NAMED_IAM")

_IN_PROGRESS = "_IN_PROGRESS"
_STUCK: Mapping[str, str] = {
    "CREATE_FAILED": "delete it and deploy again",
    "ROLLBACK_COMPLETE": "its creation failed: delete it and deploy again",
    "ROLLBACK_FAILED": "its creation failed and could not be undone: delete it and deploy again",
    "DELETE_FAILED": "its deletion failed: `cdk destroy` again; `ock sweep` lists what is left",
    "UPDATE_ROLLBACK_FAILED": "an update could not be undone: `cdk rollback`, then deploy again",
}
"""States that take no update, and what leads out of them."""


@dataclass(frozen=True)
class StackEvent:
    """A line of a stack's history."""

    moment: str
    """Time of day, UTC."""
    resource: str
    status: str
    reason: str

    def __str__(self) -> str:
        line = f"{self.moment}  {self.status:<28} {self.resource}"
        return f"{line}  {self.reason}" if self.reason else line


class Stack:
    """One stack, by name; it need not exist."""

    def __init__(self, session: boto3.Session, name: str) -> None:
        self.name = name
        with failures():
            self._client = session.client("cloudformation")

    def describe(self) -> StackTypeDef | None:
        """Return what CloudFormation knows of it, None where there is no such stack."""
        with failures(f"stack {self.name}"):
            try:
                return self._client.describe_stacks(StackName=self.name)["Stacks"][0]
            except AwsError as error:
                if code_of(error) == "ValidationError" and "does not exist" in str(error):
                    return None
                raise

    def existing(self) -> StackTypeDef:
        """Return what CloudFormation knows of it.

        Raises:
            CallFailed: there is no such stack.
        """
        found = self.describe()
        if found is None:
            region = self._client.meta.region_name
            raise CallFailed(
                f"there is no stack {self.name} in {region}: deploy it first (`cdk deploy --all`)"
            )
        return found

    def outputs(self) -> dict[str, str]:
        """Return what it tells about itself, by name.

        Raises:
            CallFailed: there is no such stack.
        """
        found = self.existing().get("Outputs", [])
        return {output.get("OutputKey", ""): output.get("OutputValue", "") for output in found}

    def resources(self, kind: str) -> dict[str, str]:
        """Return the physical ids of the resources of a type, by logical id."""
        pages = self._client.get_paginator("list_stack_resources").paginate(StackName=self.name)
        with failures(f"stack {self.name}"):
            return {
                resource["LogicalResourceId"]: resource["PhysicalResourceId"]
                for page in pages
                for resource in page["StackResourceSummaries"]
                if resource.get("ResourceType") == kind and resource.get("PhysicalResourceId")
            }

    def trouble(self) -> str | None:
        """Return why the stack takes no update, None where it does or does not exist."""
        found = self.describe()
        status = "" if found is None else found["StackStatus"]
        if status.endswith(_IN_PROGRESS):
            return f"{self.name} is {status}: wait until that is done"
        return f"{self.name} is {status}: {_STUCK[status]}" if status in _STUCK else None

    def events(self, known: set[str]) -> Iterator[StackEvent]:
        """Yield the events that `known` does not hold, oldest first, and add them to it."""
        with failures(f"stack {self.name}"):
            newest = self._client.describe_stack_events(StackName=self.name).get("StackEvents", [])
        for event in reversed(newest):
            if event["EventId"] not in known:
                known.add(event["EventId"])
                yield StackEvent(
                    moment=f"{event['Timestamp']:%H:%M:%S}",
                    resource=event.get("LogicalResourceId", ""),
                    status=event.get("ResourceStatus", ""),
                    reason=one_line(event.get("ResourceStatusReason", ""), 200),
                )

    def wait(self, report: Callable[[StackEvent], None], known: set[str]) -> str:
        """Wait until nothing is in progress any more, reporting what happens; return the status.

        Raises:
            CallFailed: it took longer than `WAIT_LIMIT_S`.
        """
        give_up = time.monotonic() + WAIT_LIMIT_S
        pause = FIRST_POLL_S
        while True:
            found = self.describe()
            if found is None:
                return "DELETE_COMPLETE"
            for event in self.events(known):
                report(event)
            if not found["StackStatus"].endswith(_IN_PROGRESS):
                return found["StackStatus"]
            if time.monotonic() > give_up:
                raise CallFailed(
                    f"{self.name} is still {found['StackStatus']} after {WAIT_LIMIT_S // 60} minutes"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_POLL_S)


class EndpointSwitch:
    """The parameter `EndpointEnabled` of the endpoint's stack."""

    def __init__(self, session: boto3.Session, stack_name: str) -> None:
        self.stack = Stack(session, stack_name)
        self._client = session.client("cloudformation")

    def is_on(self) -> bool:
        """Tell how the parameter is set.

        Raises:
            CallFailed: there is no such stack, or it has no such parameter.
        """
        return self._parameters()[ENABLED_PARAMETER] == "true"

    def turn(self, *, on: bool) -> bool:
        """Begin to turn the endpoint on or off; False where it is so already.

        Raises:
            CallFailed: the stack takes no update now, or does not exist.
        """
        trouble = self.stack.trouble()
        if trouble is not None:
            raise CallFailed(trouble)
        before = self._parameters()
        wanted = "true" if on else "false"
        if before[ENABLED_PARAMETER] == wanted:
            return False
        with failures(f"stack {self.stack.name}"):
            try:
                self._client.update_stack(
                    StackName=self.stack.name,
                    UsePreviousTemplate=True,
                    Capabilities=CAPABILITIES,
                    Parameters=[
                        {"ParameterKey": name, "ParameterValue": wanted}
                        if name == ENABLED_PARAMETER
                        else {"ParameterKey": name, "UsePreviousValue": True}
                        for name in before
                    ],
                )
            except AwsError as error:
                if "No updates are to be performed" in str(error):
                    return False
                raise
        return True

    def _parameters(self) -> dict[str, str]:
        described = self.stack.existing()
        found = {
            parameter["ParameterKey"]: parameter.get("ParameterValue", "")
            for parameter in described.get("Parameters", [])
        }
        if ENABLED_PARAMETER not in found:
            raise CallFailed(
                f"the stack {self.stack.name} has no parameter {ENABLED_PARAMETER}: "
                "deploy it again (`cdk deploy`)"
            )
        return found
