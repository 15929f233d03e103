"""`ock down`: the endpoint off."""

from __future__ import annotations

import click

from client.deployment import Deployment, deployment_options
from client.switching import switch


@click.command(short_help="Turn the endpoint off.")
@click.option("--wait", is_flag=True, help="Wait until its instances are gone, showing what happens.")
@deployment_options
def down(deployment: Deployment, wait: bool) -> None:
    """Turn the endpoint off: its instances cost no longer, everything else stays.

    Conversations, weights and settings are kept; a later `cdk deploy` leaves it off. `ock up` turns
    it on again.
    """
    switch(deployment, on=False, wait=wait)
