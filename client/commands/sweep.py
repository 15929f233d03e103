"""`ock sweep`: what of a deployment still exists, what it costs, and its removal."""

from __future__ import annotations

import sys
from typing import Any

import click

from client.deployment import APP_TAG, Deployment, deployment_options
from client.sweeping.leftover import Leftover, Scope
from client.sweeping.sweep import Findings, remove
from client.sweeping.sweep import sweep as find
from client.terminal import Screen, as_json


@click.command(short_help="List what still exists, and remove it.")
@click.option("--delete", is_flag=True, help="Remove all of it, with the data; asks for the name first.")
@click.option("--json", "as_one_json", is_flag=True, help="Print everything as one line of JSON.")
@deployment_options
def sweep(deployment: Deployment, delete: bool, as_one_json: bool) -> None:
    """List what carries the deployment's tag and still exists, with its cost a month.

    After `cdk destroy --all` that is nothing, but a key that waits for its deletion. The exit status is
    1 where something could not be looked at or removed. --delete removes what is listed, stacks first,
    keys last, and asks for the deployment's name before it does.
    """
    if delete and as_one_json:
        raise click.UsageError("--delete and --json exclude each other")
    settings = deployment.settings()
    scope = Scope(
        deployment.session(),
        app=settings.name,
        stacks=tuple(reversed(settings.stack_names.values())),
        endpoint=settings.endpoint_name,
        tag=APP_TAG,
    )
    findings = find(scope)
    if as_one_json:
        click.echo(as_json(_fields(scope, findings)))
    else:
        _show(Screen(), scope, findings)
    failed = bool(findings.failures)
    if delete and findings.remaining:
        failed = not _delete(scope, findings) or failed
    sys.exit(1 if failed else 0)


def _delete(scope: Scope, findings: Findings) -> bool:
    """Remove what was found after the user typed the name; True where all of it is gone."""
    screen = Screen()
    removable = [found for found in findings.remaining if not found.by_hand]
    holding = sum(found.holds_data for found in removable)
    if not removable:
        return True
    screen.line(
        f"This removes {len(removable)} things, {holding} of them with data that cannot be brought back."
    )
    typed = click.prompt(f"Type the deployment's name ({scope.app}) to go on", default="", show_default=False)
    if typed != scope.app:
        screen.line("nothing was removed", fg="yellow")
        return False

    def report(leftover: Leftover, outcome: str) -> None:
        colour = "green" if outcome == "removed" else "red"
        screen.line(f"{outcome}: {leftover.kind} {leftover.name}", fg=colour)

    failed = remove(scope, removable, report)
    if failed:
        screen.line(f"{len(failed)} of {len(removable)} are still there; run the command again", fg="red")
    return not failed


def _show(screen: Screen, scope: Scope, findings: Findings) -> None:
    for found in findings.leftovers:
        price = "?" if found.usd_month is None else f"{found.usd_month:,.2f}"
        note = found.by_hand or found.detail
        screen.line(f"{found.kind:<22} {price:>10}  {found.name}" + (f"  ({note})" if note else ""))
    for arn in findings.others:
        screen.line(f"{'(tagging API)':<22} {'':>10}  {arn}  (may be gone already)")
    for failure in findings.failures:
        screen.line(f"could not look at {failure}", fg="red")
    where = f"{scope.app} in {scope.session.region_name}"
    if not findings.leftovers and not findings.others:
        screen.line(f"{where}: nothing found" if findings.failures else f"{where}: nothing is left")
        return
    total = f"{findings.usd_month:,.2f} USD a month"
    unpriced = f", {findings.unpriced} without a known price" if findings.unpriced else ""
    screen.line(f"{where}: {len(findings.remaining)} things, {total}{unpriced}", bold=True)


def _fields(scope: Scope, findings: Findings) -> dict[str, Any]:
    return {
        "app": scope.app,
        "region": scope.session.region_name,
        "leftovers": [vars(found) for found in findings.leftovers],
        "others": findings.others,
        "failures": findings.failures,
        "usd_month": round(findings.usd_month, 2),
        "unpriced": findings.unpriced,
    }
