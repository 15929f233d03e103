"""What a deployment needs of the AWS account: who calls, where, and what the account allows.

Only reading calls, each with the limits of `client.aws`. What may not be read is unknown, not wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import ClientError as AwsError
from botocore.exceptions import NoRegionError

from client.aws import AWS_ERRORS, code_of, failures, reason_of
from client.checks.check import Outcome, ok, unknown, wrong
from client.errors import CallFailed
from client.stacks import Stack

if TYPE_CHECKING:
    from types_boto3_service_quotas.type_defs import ServiceQuotaTypeDef

BOOTSTRAP_VERSION = 6
"""Oldest bootstrap stack with the roles that the CDK's assets and deployments use."""
DEFAULT_QUALIFIER = "hnb659fds"
"""The CDK's own; the context key `@aws-cdk/core:bootstrapQualifier` names another."""
QUOTA_SERVICE = "sagemaker"


def credentials(session: boto3.Session) -> Outcome:
    """Tell who calls; credentials that AWS does not take are wrong."""
    try:
        caller = session.client("sts").get_caller_identity()
    except NoRegionError as error:
        return unknown(reason_of(error))
    except AWS_ERRORS as error:
        return wrong(reason_of(error), "without credentials nothing below can be looked at")
    return ok(f"account {caller['Account']}, {caller['Arn'].rpartition(':')[2]}")


def region(session: boto3.Session) -> Outcome:
    """Tell which region is meant, and whether SageMaker hosts models there as far as boto3 knows."""
    name = session.region_name
    if not name:
        return wrong("none is set", "use --region, or set AWS_REGION")
    for partition in session.get_available_partitions():
        if name in session.get_available_regions("sagemaker", partition_name=partition):
            return ok(name)
    return wrong(
        f"{name} has no SageMaker as far as boto3 knows", "choose another with --region, or AWS_REGION"
    )


def bootstrap(session: boto3.Session, qualifier: str = DEFAULT_QUALIFIER) -> Outcome:
    """Tell whether the CDK was bootstrapped in this account and region, by a version that is new enough."""
    parameter = f"/cdk-bootstrap/{qualifier}/version"
    advice = "run `cdk bootstrap`"
    with failures():
        try:
            value = session.client("ssm").get_parameter(Name=parameter)["Parameter"]["Value"]
        except AwsError as error:
            if code_of(error) == "ParameterNotFound":
                return wrong(f"there is no {parameter}", advice)
            raise
    if not value.isdecimal():
        return unknown(f"{parameter} is no number", advice)
    if int(value) < BOOTSTRAP_VERSION:
        return wrong(f"version {value}, {BOOTSTRAP_VERSION} or newer is needed", advice)
    return ok(f"version {value}")


@dataclass(frozen=True)
class Need:
    """How many instances of a type an endpoint may come to use at once."""

    instance_type: str
    count: int
    why: str


def quotas(session: boto3.Session, needs: Sequence[Need]) -> Outcome:
    """Tell whether the account may run so many instances of each type in endpoints."""
    wanted = {f"{need.instance_type} for endpoint usage": need for need in needs}
    with failures():
        found = _find_quotas(session, set(wanted))
    details: list[str] = []
    requests: list[str] = []
    for name, need in wanted.items():
        if name not in found:
            details.append(f"{need.instance_type}: Service Quotas has no “{name}” in {session.region_name}")
            continue
        allowed = math.floor(found[name]["Value"])
        details.append(f"{need.instance_type}: {allowed} allowed, {need.count} needed ({need.why})")
        if allowed < need.count:
            requests.append(
                f"aws service-quotas request-service-quota-increase --service-code {QUOTA_SERVICE} "
                f"--quota-code {found[name]['QuotaCode']} --desired-value {need.count} "
                f"--region {session.region_name}"
            )
    if requests:
        return wrong("; ".join(details), f"ask for more: {'; '.join(requests)}")
    if len(found) < len(wanted):
        return unknown("; ".join(details), "look whether the type exists in this region")
    return ok("; ".join(details))


def stacks(session: boto3.Session, names: tuple[str, ...]) -> Outcome:
    """Tell whether each of the app's stacks would take an update."""
    found = {name: Stack(session, name) for name in names}
    described = {name: stack.describe() for name, stack in found.items()}
    for name, description in described.items():
        trouble = found[name].trouble() if description is not None else None
        if trouble is not None:
            detail, _, advice = trouble.partition(": ")
            return wrong(detail, advice)
    present = [name for name, description in described.items() if description is not None]
    return ok(f"{len(present)} of {len(names)} deployed")


def hub_token(session: boto3.Session, secret: str) -> Outcome:
    """Tell whether the secret of the hub's token exists; its value is not read."""
    with failures():
        try:
            described = session.client("secretsmanager").describe_secret(SecretId=secret)
        except AwsError as error:
            if code_of(error) == "ResourceNotFoundException":
                return wrong(
                    f"there is no secret {secret}",
                    f"aws secretsmanager create-secret --name {secret} --secret-string file://token",
                )
            raise
    if described.get("DeletedDate") is not None:
        return wrong(f"the secret {secret} is being deleted", "restore it, or name another")
    return ok(f"secret {described.get('Name', secret)}")


def staged(session: boto3.Session, bucket: str | None, manifests: Mapping[str, str]) -> Outcome:
    """Tell whether each model's manifest, which staging writes last, is in the bucket; keys by model."""
    if bucket is None:
        return wrong("there is no bucket yet", "deploy the Storage stack, then run `ock stage`")
    missing = [model for model, key in manifests.items() if not has_object(session, bucket, key)]
    if missing:
        return wrong(f"not in s3://{bucket}: {', '.join(missing)}", "run `ock stage`")
    return ok(f"{len(manifests)} of {len(manifests)} in s3://{bucket}")


def has_object(session: boto3.Session, bucket: str, key: str) -> bool:
    """Tell whether a key is in a bucket.

    Raises:
        CallFailed: the bucket does not exist or may not be read.
    """
    with failures(f"s3://{bucket}"):
        try:
            session.client("s3").head_object(Bucket=bucket, Key=key)
        except AwsError as error:
            code = code_of(error)
            if code in ("404", "NoSuchKey", "NotFound"):
                return False
            if code == "403":
                raise CallFailed(f"not allowed to read s3://{bucket}/{key}") from error
            raise
    return True


def _find_quotas(session: boto3.Session, names: set[str]) -> dict[str, ServiceQuotaTypeDef]:
    """Return the account's quotas of these names, AWS's defaults where the account has none of its own.

    SageMaker has thousands, in pages of a hundred: reading ends with the last one that was looked for.
    """
    client = session.client("service-quotas")
    applied = client.get_paginator("list_service_quotas").paginate(ServiceCode=QUOTA_SERVICE)
    defaults = client.get_paginator("list_aws_default_service_quotas").paginate(ServiceCode=QUOTA_SERVICE)
    found: dict[str, ServiceQuotaTypeDef] = {}
    for pages in (applied, defaults):
        for page in pages:
            for quota in page["Quotas"]:
                if quota.get("QuotaName") in names:
                    found.setdefault(quota["QuotaName"], quota)
            if len(found) == len(names):
                return found
    return found
