"""`ock domain`: becomes `python -m local.domain`."""

from __future__ import annotations

import click

from client.programs import PASSED_ON, become

MODULE = "local.domain"


@click.command(short_help="Fit the out-of-domain guard.", add_help_option=False, context_settings=PASSED_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def domain(arguments: tuple[str, ...]) -> None:
    """Fit the out-of-domain guard (`ock domain --help` tells how)."""
    become(MODULE, arguments)
