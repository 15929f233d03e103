"""What deploys and acts: stacks, CodeBuild projects, Lambda functions, roles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError as AwsError

from client.aws import code_of
from client.errors import CallFailed
from client.stacks import Stack
from client.sweeping.leftover import Leftover, Scope

BATCH = 100
"""Projects that CodeBuild describes in one call."""


class Stacks:
    """CloudFormation stacks. Their resources appear by themselves as well."""

    title = "stack"

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._client = scope.session.client("cloudformation")

    def find(self) -> Iterator[Leftover]:
        """Yield the app's stacks in the order in which they can be deleted."""
        pages = self._client.get_paginator("describe_stacks").paginate()
        owned = {
            stack["StackName"]: stack["StackStatus"]
            for page in pages
            for stack in page["Stacks"]
            if stack["StackName"] in self._scope.stacks or self._scope.owns(stack.get("Tags", []))
        }
        order = {name: place for place, name in enumerate(self._scope.stacks)}
        for name in sorted(owned, key=lambda found: order.get(found, -1)):
            yield Leftover(self.title, name, owned[name])

    def remove(self, leftover: Leftover) -> None:
        """Delete a stack and wait until it is gone.

        Raises:
            CallFailed: CloudFormation could not delete it; its own words say why.
        """
        known: set[str] = set()
        stack = Stack(self._scope.session, leftover.name)
        list(stack.events(known))
        self._client.delete_stack(StackName=leftover.name)
        reasons: list[str] = []
        status = stack.wait(
            lambda event: reasons.append(event.reason) if event.status.endswith("FAILED") else None, known
        )
        if status != "DELETE_COMPLETE":
            raise CallFailed(f"{leftover.name} is {status}" + (f": {reasons[0]}" if reasons else ""))


class Projects:
    """CodeBuild projects: no cost at rest."""

    title = "build project"

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._client = scope.session.client("codebuild")

    def find(self) -> Iterator[Leftover]:
        """Yield the app's projects."""
        names = [
            name
            for page in self._client.get_paginator("list_projects").paginate()
            for name in page["projects"]
        ]
        for start in range(0, len(names), BATCH):
            for project in self._client.batch_get_projects(names=names[start : start + BATCH])["projects"]:
                if self._scope.owns(project.get("tags", [])) or self._scope.owns_name(project["name"]):
                    yield Leftover(self.title, project["name"])

    def remove(self, leftover: Leftover) -> None:
        """Delete a project; a build that runs ends."""
        self._client.delete_project(name=leftover.name)


class Functions:
    """Lambda functions: no cost at rest."""

    title = "function"

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._client = scope.session.client("lambda")

    def find(self) -> Iterator[Leftover]:
        """Yield the app's functions."""
        pages = self._client.get_paginator("list_functions").paginate()
        listed = [function for page in pages for function in page["Functions"]]
        for function in self._scope.owned(listed, self._tags):
            yield Leftover(self.title, function["FunctionName"])

    def remove(self, leftover: Leftover) -> None:
        """Delete a function."""
        self._client.delete_function(FunctionName=leftover.name)

    def _tags(self, function: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        tags = self._client.list_tags(Resource=function["FunctionArn"])["Tags"]
        return [{"key": key, "value": value} for key, value in tags.items()]


class Parameters:
    """SSM parameters: no cost."""

    title = "parameter"

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._client = scope.session.client("ssm")

    def find(self) -> Iterator[Leftover]:
        """Yield the app's parameters."""
        pages = self._client.get_paginator("describe_parameters").paginate(
            ParameterFilters=[{"Key": f"tag:{self._scope.tag}", "Values": [self._scope.app]}]
        )
        listed = [parameter["Name"] for page in pages for parameter in page["Parameters"]]
        for name in self._scope.owned(listed, self._tags):
            yield Leftover(self.title, name)

    def remove(self, leftover: Leftover) -> None:
        """Delete a parameter."""
        self._client.delete_parameter(Name=leftover.name)

    def _tags(self, name: str) -> list[Mapping[str, Any]]:
        found = self._client.list_tags_for_resource(ResourceType="Parameter", ResourceId=name)
        return list(found["TagList"])


class Roles:
    """IAM roles: no cost, but they may act."""

    title = "role"

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._client = scope.session.client("iam")

    def find(self) -> Iterator[Leftover]:
        """Yield the app's roles. IAM is global, so they may be those of the app in another region."""
        pages = self._client.get_paginator("list_roles").paginate()
        # By name first: an account may hold a thousand roles, and tags come for one role a call.
        listed = [role["RoleName"] for page in pages for role in page["Roles"]]
        mine = [name for name in listed if self._scope.owns_name(name)]
        for name in self._scope.owned(
            mine, lambda found: self._client.list_role_tags(RoleName=found)["Tags"]
        ):
            yield Leftover(
                self.title, name, by_hand="roles belong to all regions: is the app in another one?"
            )

    def remove(self, leftover: Leftover) -> None:
        """Refuse: a role cannot be told from that of the same app in another region."""
        raise CallFailed(f"{leftover.name} is not removed: {leftover.by_hand}")


def is_gone(error: AwsError) -> bool:
    """Tell whether an error says that the thing is not there any more, which is what was wanted."""
    code = code_of(error)
    if code == "ValidationException":  # SageMaker has no code of its own for it
        return "Could not find" in str(error)
    # A key that is scheduled for deletion already is in an invalid state for that.
    return "NotFound" in code or code in ("NoSuchBucket", "NoSuchEntity", "KMSInvalidStateException")
