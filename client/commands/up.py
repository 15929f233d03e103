"""`ock up`: the endpoint on."""

from __future__ import annotations

import click

from client.deployment import Deployment, deployment_options
from client.switching import switch


@click.command(short_help="Turn the endpoint on.")
@click.option("--wait", is_flag=True, help="Wait until it answers, showing what happens.")
@deployment_options
def up(deployment: Deployment, wait: bool) -> None:
    """Turn the endpoint on again after `ock down`.

    An update of its stack with nothing but the switch changed; instances take 10 to 30 minutes to
    answer, and cost from the moment they start.
    """
    switch(deployment, on=True, wait=wait)
