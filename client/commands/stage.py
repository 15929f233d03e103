"""`ock stage`: the weights from the hub to the deployment's bucket, ahead of `cdk deploy`."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import boto3
import click

from client.aws import failures
from client.builds import Builds
from client.checks.account import has_object
from client.deployment import Deployment, deployment_options, storage_bucket
from client.errors import CallFailed
from client.stacks import Stack
from client.terminal import Screen
from stacks.settings import DeploySettings

PROGRAM = "staging"
PROJECT_TYPE = "AWS::CodeBuild::Project"
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 10_000_000
PREFIX = "weights"


@click.command(short_help="Bring the weights to the bucket.")
@click.option("--local", is_flag=True, help="Run the staging program on this machine, not in CodeBuild.")
@click.option("--status", is_flag=True, help="Only tell whether the weights are there.")
@deployment_options
def stage(deployment: Deployment, local: bool, status: bool) -> None:
    """Bring the weights of the settings' models from the hub to the deployment's bucket.

    CodeBuild does it in the account, beside the bucket; its log is shown while it runs, and Ctrl-C leaves
    it running. The Storage and Weights stacks must be deployed; --local needs the Storage stack alone,
    and room on this machine for the larger model. What is there already is not brought again.

    With --status the exit status is 1 where a model is missing.
    """
    if local and status:
        raise click.UsageError("--local and --status exclude each other")
    settings = deployment.settings()
    session = deployment.session()
    bucket = storage_bucket(session, settings)
    if bucket is None:
        raise CallFailed(
            f"the stack {settings.stack_names['Storage']} is not deployed: "
            f"`cdk deploy {settings.stack_names['Storage']} {settings.stack_names['Weights']}`"
        )
    screen = Screen()
    models = _models(settings)
    missing = [model for model in models if not _is_staged(screen, session, bucket, *model)]
    if status:
        sys.exit(1 if missing else 0)
    for model, revision in missing:
        if local:
            _stage_here(deployment, settings, bucket, model, revision)
        else:
            _stage_there(screen, session, settings, model, revision)
    left = [model for model in missing if not _is_staged(screen, session, bucket, *model)]
    if left:
        raise CallFailed("staging ended, but a manifest is still missing")


def _models(settings: DeploySettings) -> list[tuple[str, str]]:
    """Return the models with their revisions, each once.

    Raises:
        CallFailed: a revision is not set.
    """
    models: list[tuple[str, str]] = []
    for role in ("chat", "moderation"):
        model = settings.model(role), settings.revision(role)
        if not model[1]:
            raise CallFailed(
                f"{role}_revision is not set: `cdk synth` writes the newest commit of {model[0]} to "
                f"cdk.context.json, or set it with -c {role}_revision=COMMIT"
            )
        if model not in models:
            models.append(model)
    return models


def _is_staged(screen: Screen, session: boto3.Session, bucket: str, model: str, revision: str) -> bool:
    key = f"{PREFIX}/{model}/{revision}/{MANIFEST}"
    if not has_object(session, bucket, key):
        screen.line(f"missing  {model} at {revision[:12]}: s3://{bucket}/{key}", fg="yellow")
        return False
    with failures(f"s3://{bucket}/{key}"):
        body = session.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read(MAX_MANIFEST_BYTES)
    screen.line(f"staged   {model} at {revision[:12]}{_held(body)}", fg="green")
    return True


def _held(manifest: bytes) -> str:
    """Return how much a manifest names; staging reads it with more care."""
    try:
        fields: dict[str, Any] = json.loads(manifest)
        return f": {len(fields['files'])} files, {fields['total_size'] / 1e9:.1f} GB"
    except (ValueError, KeyError, TypeError):
        return " (with a manifest of another format)"


def _stage_there(
    screen: Screen, session: boto3.Session, settings: DeploySettings, model: str, revision: str
) -> None:
    stack = Stack(session, settings.stack_names["Weights"])
    stack.existing()
    projects = stack.resources(PROJECT_TYPE)
    if len(projects) != 1:
        raise CallFailed(
            f"the stack {stack.name} has {len(projects)} build projects, not one: deploy it again"
        )
    builds = Builds(session, next(iter(projects.values())))
    environment = {"MODEL": model, "REVISION": revision}
    build = builds.running(environment)
    screen.line(f"{model}: {'following' if build else 'starting'} a build of {builds.project}", bold=True)
    build = build or builds.start(environment)
    try:
        builds.follow(build, lambda line: screen.line(line, dim=True))
    except KeyboardInterrupt:
        screen.line(
            f"not following any longer; stop it with `aws codebuild stop-build --id {build}`", fg="yellow"
        )
        raise


def _stage_here(
    deployment: Deployment, settings: DeploySettings, bucket: str, model: str, revision: str
) -> None:
    """Run the staging program, whose output is this command's.

    Raises:
        CallFailed: the program is not here, or it failed; its own line says why.
    """
    if importlib.util.find_spec(PROGRAM) is None:
        raise CallFailed("the staging program is not installed here; run this in a clone of the repository")
    # -P: a folder `staging` where the user stands must not be taken for ours.
    command = [sys.executable, "-P", "-m", PROGRAM, "--model", model, "--revision", revision]
    command += ["--bucket", bucket, "--prefix", PREFIX]
    if settings.hub_token_secret:
        command += ["--token-secret", _secret_arn(deployment.session(), settings.hub_token_secret)]
    environment = dict(os.environ)
    if deployment.region:
        environment |= {"AWS_REGION": deployment.region, "AWS_DEFAULT_REGION": deployment.region}
    if deployment.profile:
        environment["AWS_PROFILE"] = deployment.profile
    done = subprocess.run(command, env=environment, check=False)  # noqa: S603 - our own program
    if done.returncode != 0:
        raise CallFailed(f"staging {model} failed with exit status {done.returncode}")


def _secret_arn(session: boto3.Session, secret: str) -> str:
    with failures(f"secret {secret}"):
        return session.client("secretsmanager").describe_secret(SecretId=secret)["ARN"]
