"""Find everything of the app that still exists, and remove it in an order that works.

Every kind of thing is looked up at its own service, so what is listed exists. The Resource Groups
Tagging API adds what no kind here covers; it may name a thing for some time after its end, which is
why such things are shown apart and never removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from botocore.exceptions import BotoCoreError, WaiterError
from botocore.exceptions import ClientError as AwsError
from botocore.parsers import ResponseParserError

from client.aws import AWS_ERRORS, failures, reason_of
from client.errors import CallFailed, ClientError
from client.sweeping.building import Functions, Parameters, Projects, Roles, Stacks, is_gone
from client.sweeping.data import Buckets, Keys, Repositories, Tables
from client.sweeping.leftover import Kind, Leftover, Scope
from client.sweeping.network import Addresses, NatGateways, VpcEndpoints, Vpcs, is_in_use
from client.sweeping.serving import EndpointConfigs, Endpoints, Models
from client.sweeping.watching import Alarms, Dashboards, LogGroups, Schedules, Topics

KINDS: Sequence[Callable[[Scope], Kind]] = (
    Schedules,  # first: it could switch on again what is removed next
    Stacks,  # takes most of what follows with it
    Endpoints,
    EndpointConfigs,
    Models,
    Alarms,
    Dashboards,
    Topics,
    Projects,
    Functions,
    Parameters,
    Repositories,
    Tables,
    Buckets,
    LogGroups,  # after what writes them
    NatGateways,
    VpcEndpoints,
    Addresses,
    Vpcs,
    Roles,
    Keys,  # last: buckets and tables are locked with them
)
"""In the order of removal."""
FINDERS = 6
"""Threads that look for different kinds at the same time."""
COVERED = frozenset(
    {"cloudformation:stack", "sagemaker:endpoint", "sagemaker:endpoint-config", "sagemaker:model"}
    | {"cloudwatch:alarm", "cloudwatch:dashboard", "logs:log-group", "sns:", "scheduler:schedule"}
    | {
        "codebuild:project",
        "lambda:function",
        "ssm:parameter",
        "ecr:repository",
        "dynamodb:table",
        "s3:",
        "kms:key",
    }
    | {"ec2:natgateway", "ec2:vpc-endpoint", "ec2:elastic-ip", "ec2:vpc", "iam:role"}
    # Go with the network that they are part of.
    | {"ec2:subnet", "ec2:route-table", "ec2:internet-gateway", "ec2:security-group"}
    | {"ec2:security-group-rule", "ec2:network-interface"}
)
"""Types that a kind above looks up itself, as they stand in an ARN."""


@dataclass
class Findings:
    """What there is, and what could not be looked at."""

    leftovers: list[Leftover] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """ARNs that the tagging API names and no kind here covers."""
    failures: list[str] = field(default_factory=list)

    @property
    def remaining(self) -> list[Leftover]:
        """What does not go by itself."""
        return [leftover for leftover in self.leftovers if not leftover.expiring]

    @property
    def usd_month(self) -> float:
        """Cost a month of what has a known price."""
        return sum(leftover.usd_month or 0.0 for leftover in self.leftovers)

    @property
    def unpriced(self) -> int:
        """Number of things whose price is not known."""
        return sum(leftover.usd_month is None for leftover in self.leftovers)


def sweep(scope: Scope) -> Findings:
    """Look everywhere.

    Raises:
        CallFailed: there are no credentials or no region, so that nothing could be asked at all.
    """
    with failures():
        scope.session.client("sts").get_caller_identity()
        kinds = [kind(scope) for kind in KINDS]
    findings = Findings()
    with ThreadPoolExecutor(FINDERS) as finders:
        for kind, found in zip(kinds, finders.map(_find, kinds), strict=True):
            if isinstance(found, str):
                findings.failures.append(f"{kind.title}: {found}")
            else:
                findings.leftovers += found
    try:
        findings.others = sorted(_others(scope))
    except AWS_ERRORS as error:
        findings.failures.append(f"tagging API: {reason_of(error)}")
    return findings


def remove(scope: Scope, leftovers: Iterable[Leftover], report: Callable[[Leftover, str], None]) -> list[str]:
    """Remove things, kind by kind; `report` gets each with its outcome. Return what failed, a line each.

    One that cannot be removed does not stop the others. What EC2 calls in use is tried once more at the end.
    """
    with failures():
        kinds = {kind.title: kind for kind in (make(scope) for make in KINDS)}
    order = {title: place for place, title in enumerate(kinds)}
    # By kind alone: within one, the order found is the order of removal.
    waiting = sorted(
        (found for found in leftovers if not found.expiring), key=lambda found: order[found.kind]
    )
    again: list[Leftover] = []
    failed: list[str] = []
    for leftover in waiting:
        reason, in_use = _remove(kinds[leftover.kind], leftover)
        if in_use:
            again.append(leftover)
        elif reason:
            failed.append(f"{leftover.kind} {leftover.name}: {reason}")
            report(leftover, reason)
        else:
            report(leftover, "removed")
    for leftover in again:
        reason, _ = _remove(kinds[leftover.kind], leftover)
        if reason:
            failed.append(f"{leftover.kind} {leftover.name}: {reason}")
        report(leftover, reason or "removed")
    return failed


def _find(kind: Kind) -> list[Leftover] | str:
    try:
        return list(kind.find())
    except AWS_ERRORS as error:
        return reason_of(error)
    except ClientError as error:
        return str(error)


def _remove(kind: Kind, leftover: Leftover) -> tuple[str, bool]:
    """Return why it could not be removed, empty where it could; and whether it is still in use."""
    try:
        kind.remove(leftover)
    except WaiterError:
        return "it is being removed and takes its time", False
    except AwsError as error:
        return ("", False) if is_gone(error) else (reason_of(error), is_in_use(error))
    except (BotoCoreError, ResponseParserError) as error:
        return reason_of(error), False
    except CallFailed as error:
        return str(error), False
    return "", False


def _others(scope: Scope) -> Iterator[str]:
    pages = scope.session.client("resourcegroupstaggingapi").get_paginator("get_resources")
    for page in pages.paginate(TagFilters=[{"Key": scope.tag, "Values": [scope.app]}]):
        for resource in page["ResourceTagMappingList"]:
            if type_of(resource["ResourceARN"]) not in COVERED:
                yield resource["ResourceARN"]


def type_of(arn: str) -> str:
    """Return `service:type` of an ARN; SNS and S3 have no type in theirs."""
    parts = arn.split(":", 5)
    if len(parts) < 6:
        return arn
    service, resource = parts[2], parts[5]
    if service in ("sns", "s3"):
        return f"{service}:"
    kind = resource.replace(":", "/").partition("/")[0]
    return f"{service}:{kind}"
