"""`ock doctor`: what stands in the way of a deployment, before it begins."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import boto3
import click

from client.checks import account, machine
from client.checks.check import Check, Outcome, Status, ok, run_checks, skipped, unknown, wrong
from client.deployment import Deployment, deployment_options, storage_bucket
from client.errors import CallFailed
from client.terminal import Screen, as_json
from stacks.settings import DeploySettings

MARKS: Mapping[Status, tuple[str, str | None]] = {
    "ok": ("ok", "green"),
    "wrong": ("WRONG", "red"),
    "unknown": ("?", "yellow"),
    "skipped": ("-", None),
}
QUALIFIER_KEY = "@aws-cdk/core:bootstrapQualifier"
MANIFEST = "manifest.json"


@click.command(short_help="Check what a deployment needs.")
@click.option("--json", "as_one_json", is_flag=True, help="Print everything as one line of JSON.")
@deployment_options
def doctor(deployment: Deployment, as_one_json: bool) -> None:
    """Check what a deployment needs, a line each: ok, or what to do.

    The machine: Python, Node, the CDK, Docker. The account: credentials, region, bootstrap, stacks,
    quotas of the endpoint's instances. The models: the hub, its token, the staged weights. Nothing is
    changed. The exit status is 1 where something is wrong; `?` is a check that could not be made.
    """
    screen = Screen()
    found: list[tuple[Check, Outcome]] = []
    for check, outcome in run_checks(checks_of(deployment)):
        found.append((check, outcome))
        if not as_one_json:
            _show(screen, check, outcome)
    wrong_ones = [check.name for check, outcome in found if outcome.status == "wrong"]
    if as_one_json:
        click.echo(as_json(_fields(found)))
    elif wrong_ones:
        screen.line(f"{len(wrong_ones)} to mend: {', '.join(wrong_ones)}", fg="red")
    sys.exit(1 if wrong_ones else 0)


def checks_of(deployment: Deployment) -> list[Check]:
    """Return the checks; those that need settings say so where the settings cannot be read."""
    checks = [
        Check("python", machine.python_version),
        Check("node", machine.node_version),
        Check("cdk", partial(machine.cdk_version, deployment.app_dir)),
    ]
    try:
        # One for each check: making clients of one session in several threads at once is not safe.
        sessions = [deployment.session() for _ in range(8)]
    except CallFailed as error:
        return [*checks, Check("credentials", partial(wrong, str(error), "name another --profile"))]
    checks += [
        Check("credentials", partial(account.credentials, sessions[0])),
        Check("region", partial(account.region, sessions[1])),
    ]
    try:
        context = deployment.context()
        settings = deployment.settings()
    except CallFailed as error:
        reason = str(error)
        rest = ("bootstrap", "stacks", "quota", "image", "hub token", "hub", "weights")
        return [
            *checks,
            Check("settings", partial(wrong, reason, "mend the setting, here or in cdk.json")),
            *(Check(name, partial(unknown, "the settings cannot be read")) for name in rest),
        ]
    qualifier = str(context.get(QUALIFIER_KEY, account.DEFAULT_QUALIFIER))
    names = tuple(settings.stack_names.values())
    return [
        *checks,
        Check("settings", partial(ok, f"{settings.name}, endpoint {settings.endpoint_name}")),
        Check("bootstrap", partial(account.bootstrap, sessions[2], qualifier)),
        Check("stacks", partial(account.stacks, sessions[3], names)),
        Check("quota", partial(account.quotas, sessions[4], quota_needs(settings))),
        Check("image", partial(_image, settings)),
        Check("hub token", partial(_hub_token, sessions[5], settings)),
        Check("hub", partial(_hub, settings)),
        Check("weights", partial(_weights, sessions[6], settings)),
    ]


def quota_needs(settings: DeploySettings) -> list[account.Need]:
    """Return how many instances of each type may run at once: scaled out, or twice during an update."""
    doubled = settings.update_policy in ("blue_green", "canary")
    least: dict[str, int] = {}
    most: dict[str, int] = {}
    for role in settings.roles:
        kind = settings.instance_type(role).name
        fewest, highest = settings.instances(role)
        least[kind] = least.get(kind, 0) + fewest
        most[kind] = most.get(kind, 0) + highest
    needs = []
    for kind, count in least.items():
        twice = 2 * count if doubled else count
        if twice >= most[kind]:
            why = f"{settings.update_policy}: twice {count}" if doubled else f"{count} at once"
            needs.append(account.Need(kind, twice, why))
        else:
            needs.append(account.Need(kind, most[kind], f"{most[kind]} when scaled out"))
    return needs


def _image(settings: DeploySettings) -> Outcome:
    if settings.image == "asset":
        return machine.docker()
    if settings.image == "codebuild":
        return skipped("built in the account (image=codebuild), no Docker needed here")
    return skipped(f"{settings.image} is there already")


def _hub_token(session: boto3.Session, settings: DeploySettings) -> Outcome:
    if settings.hub_token_secret is None:
        return skipped("no hub_token_secret is set; only gated models need one")
    return account.hub_token(session, settings.hub_token_secret)


def _hub(settings: DeploySettings) -> Outcome:
    if settings.weights == "staged":
        return skipped("weights=staged: the hub is not asked in a deployment")
    from client.checks import hub  # brings an HTTP client along, which only this check needs

    wanted = {settings.model(role): settings.revision(role) for role in ("chat", "moderation")}
    return hub.models(wanted, has_token=settings.hub_token_secret is not None)


def _weights(session: boto3.Session, settings: DeploySettings) -> Outcome:
    if settings.weights == "deploy":
        return skipped("weights=deploy: brought by the deployment")
    manifests = {}
    for role in ("chat", "moderation"):
        if not settings.revision(role):
            return wrong(f"{role}_revision is not set", f"set it to the commit of {settings.model(role)}")
        manifests[settings.model(role)] = settings.weights_prefix(role) + MANIFEST
    return account.staged(session, storage_bucket(session, settings), manifests)


def _show(screen: Screen, check: Check, outcome: Outcome) -> None:
    mark, colour = MARKS[outcome.status]
    advice = f"; {outcome.advice}" if outcome.advice else ""
    screen.line(f"{mark:<6} {check.name:<12} {outcome.detail}{advice}", fg=colour)


def _fields(found: Sequence[tuple[Check, Outcome]]) -> dict[str, Any]:
    return {
        "ok": all(outcome.status != "wrong" for _, outcome in found),
        "checks": [{"name": check.name, **vars(outcome)} for check, outcome in found],
    }
