"""A CodeBuild build as a custom resource: CloudFormation starts it and waits until it has succeeded.

Handlers `on_event` and `is_complete` of the CDK's Provider framework. Resource properties:

    ProjectName   the CodeBuild project
    Fingerprint   whatever makes a new build necessary when it changes; not read
    Environment   names and values that the build gets as plain variables (never secrets)

Create and Update start a build, Delete does nothing. A request that comes twice gets the same build:
CodeBuild keeps the request's id as an idempotency token (for five minutes, which covers the retries of a
function). A build that fails makes the resource fail with one line: the phase, the reason, the log.

Permissions: codebuild:StartBuild and codebuild:BatchGetBuilds on the project. With logs:GetLogEvents on
its log group the line ends with the program's own reason; without it the line does without.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from types_boto3_codebuild import CodeBuildClient

CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 8},
    connect_timeout=5,
    read_timeout=30,
)
MAX_REASON_CHARACTERS = 500
"""CloudFormation cuts a reason after about a thousand characters; the link comes behind it."""
REASON_MARK = "staging: "
"""How the staging program begins the line that says why it failed."""
LAST_LOG_EVENTS = 50
RUNNING = "IN_PROGRESS"
SUCCEEDED = "SUCCEEDED"
PASSING = frozenset({"ThrottlingException", "Throttling", "InternalFailure", "ServiceUnavailable"})


def on_event(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Start the build that a Create or Update asks for."""
    properties = event["ResourceProperties"]
    project = properties["ProjectName"]
    answer: dict[str, Any] = {"PhysicalResourceId": project}
    if event["RequestType"] == "Delete":
        return {"PhysicalResourceId": event["PhysicalResourceId"]}
    if event["RequestType"] == "Update" and _same(properties, event.get("OldResourceProperties", {})):
        return answer
    environment = properties.get("Environment") or {}
    build = _codebuild().start_build(
        projectName=project,
        environmentVariablesOverride=[
            {"name": name, "value": str(value), "type": "PLAINTEXT"}
            for name, value in sorted(environment.items())
        ],
        idempotencyToken=hashlib.sha256(event["RequestId"].encode()).hexdigest(),
    )["build"]
    return {**answer, "Data": {"BuildId": build["id"]}}


def is_complete(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Tell whether the build is over.

    Raises:
        RuntimeError: it did not succeed; the message is one line.
    """
    build_id = (event.get("Data") or {}).get("BuildId")
    if event["RequestType"] == "Delete" or build_id is None:
        return {"IsComplete": True}
    try:
        builds = _codebuild().batch_get_builds(ids=[build_id])["builds"]
    except ClientError as error:
        if error.response["Error"]["Code"] in PASSING:
            return {"IsComplete": False}  # the framework asks again, until its own time is over
        raise
    except BotoCoreError:
        return {"IsComplete": False}
    if not builds:
        raise RuntimeError(f"build {build_id} is gone")
    status = builds[0]["buildStatus"]
    if status == RUNNING:
        return {"IsComplete": False}
    if status != SUCCEEDED:
        raise RuntimeError(_failure(builds[0]))
    return {"IsComplete": True, "Data": {"BuildId": build_id}}


def _same(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Tell whether nothing that a build depends on has changed (a timeout of the resource may have)."""
    return all(new.get(name) == old.get(name) for name in ("ProjectName", "Fingerprint", "Environment"))


def _failure(build: Mapping[str, Any]) -> str:
    """Return one line about a build that did not succeed."""
    failed = [phase for phase in build.get("phases", []) if phase.get("phaseStatus") not in (None, SUCCEEDED)]
    phase = failed[0] if failed else {}
    contexts = phase.get("contexts") or [{}]
    reason = _last_words(build.get("logs") or {}) or contexts[0].get("message") or "no reason given"
    reason = " ".join(reason.split())[:MAX_REASON_CHARACTERS]
    where = f" in {phase['phaseType']}" if phase else ""
    link = (build.get("logs") or {}).get("deepLink", "no log")
    return f"build {build['id']}: {build['buildStatus']}{where}: {reason} ({link})"


def _last_words(logs: Mapping[str, Any]) -> str | None:
    """Return the reason that the staging program gave in its log, None where that cannot be read."""
    group, stream = logs.get("groupName"), logs.get("streamName")
    if not group or not stream:
        return None
    client = boto3.client("logs", config=CONFIG)
    try:
        events = client.get_log_events(
            logGroupName=group, logStreamName=stream, limit=LAST_LOG_EVENTS, startFromHead=False
        )["events"]
    except (ClientError, BotoCoreError):
        return None
    lines = [event["message"].strip() for event in events]
    reasons = [line for line in lines if line.startswith(REASON_MARK)]
    return reasons[-1] if reasons else None


def _codebuild() -> CodeBuildClient:
    return boto3.client("codebuild", config=CONFIG)
