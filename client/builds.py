"""A CodeBuild build: started, or found running, and followed with its log until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import ClientError as AwsError

from client.aws import code_of, failures
from client.errors import CallFailed
from client.terminal import one_line

if TYPE_CHECKING:
    from types_boto3_codebuild.type_defs import BuildTypeDef

WAIT_LIMIT_S = 8 * 3600
"""Longest that CodeBuild lets a build run."""
FIRST_POLL_S = 1.0
LONGEST_POLL_S = 10.0
RUNNING = "IN_PROGRESS"
SUCCEEDED = "SUCCEEDED"
RECENT_BUILDS = 10
"""Of a project, among which one that runs is looked for."""


class Builds:
    """The builds of one project."""

    def __init__(self, session: boto3.Session, project: str) -> None:
        self.project = project
        with failures():
            self._client = session.client("codebuild")
            self._logs = session.client("logs")

    def running(self, environment: Mapping[str, str]) -> str | None:
        """Return the id of a build under way with the same variables, None where there is none."""
        with failures(f"project {self.project}"):
            ids = self._client.list_builds_for_project(projectName=self.project)["ids"][:RECENT_BUILDS]
            builds = self._client.batch_get_builds(ids=ids)["builds"] if ids else []
        for build in builds:
            if build["buildStatus"] == RUNNING and environment.items() <= _variables(build).items():
                return build["id"]
        return None

    def start(self, environment: Mapping[str, str]) -> str:
        """Start a build with these variables, which are no secrets; return its id."""
        with failures(f"project {self.project}"):
            started = self._client.start_build(
                projectName=self.project,
                environmentVariablesOverride=[
                    {"name": name, "value": value, "type": "PLAINTEXT"}
                    for name, value in sorted(environment.items())
                ],
            )
        return started["build"]["id"]

    def follow(self, build_id: str, report: Callable[[str], None]) -> None:
        """Report each phase and each line of the log until the build ends.

        Raises:
            CallFailed: it did not succeed, in one line with the phase and the address of the log.
        """
        give_up = time.monotonic() + WAIT_LIMIT_S
        pause = FIRST_POLL_S
        phase = ""
        token: str | None = None
        while True:
            build = self._get(build_id)
            if build.get("currentPhase", "") != phase:
                phase = build.get("currentPhase", "")
                report(f"[{phase.lower()}]")
            over = build["buildStatus"] != RUNNING
            for lines, next_token in self._log(build, token):
                token = next_token
                for line in lines:
                    report(line)
            if over:
                break
            if time.monotonic() > give_up:
                raise CallFailed(f"build {build_id} still runs after {WAIT_LIMIT_S // 3600} hours")
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_POLL_S)
        if build["buildStatus"] != SUCCEEDED:
            raise CallFailed(_failure(build))

    def _get(self, build_id: str) -> BuildTypeDef:
        with failures(f"build {build_id}"):
            builds = self._client.batch_get_builds(ids=[build_id])["builds"]
        if not builds:
            raise CallFailed(f"CodeBuild knows no build {build_id}")
        return builds[0]

    def _log(self, build: BuildTypeDef, token: str | None) -> Iterator[tuple[list[str], str]]:
        """Yield new lines of the log, page by page, each with where the next one begins."""
        logs = build.get("logs", {})
        group, stream = logs.get("groupName"), logs.get("streamName")
        if not group or not stream:
            return
        while True:
            asked: dict[str, Any] = {"nextToken": token} if token else {"startFromHead": True}
            try:
                page = self._logs.get_log_events(logGroupName=group, logStreamName=stream, **asked)
            except AwsError as error:
                if code_of(error) == "ResourceNotFoundException":  # nothing was written yet
                    return
                with failures("the build's log"):
                    raise
            following = page["nextForwardToken"]
            if page["events"]:
                yield [one_line(event.get("message", ""), 500) for event in page["events"]], following
            if following == token:
                return
            token = following


def _variables(build: BuildTypeDef) -> dict[str, str]:
    declared = build.get("environment", {}).get("environmentVariables", [])
    return {variable["name"]: variable["value"] for variable in declared}


def _failure(build: BuildTypeDef) -> str:
    """Return why a build failed, in one line."""
    for phase in build.get("phases", []):
        if phase.get("phaseStatus") not in (None, SUCCEEDED):
            reasons = " ".join(context.get("message", "") for context in phase.get("contexts", []))
            where = f" in {phase.get('phaseType', '').lower()}"
            break
    else:
        where, reasons = "", ""
    link = build.get("logs", {}).get("deepLink", "")
    line = f"build {build['id']}: {build['buildStatus'].lower().replace('_', ' ')}{where}"
    if reasons.strip():
        line += f": {one_line(reasons, 200)}"
    return f"{line}; log: {link}" if link else line
