"""`ock index`: becomes `python -m local.indexing`."""

from __future__ import annotations

import click

from client.programs import PASSED_ON, become

MODULE = "local.indexing"


@click.command(short_help="Make documents searchable.", add_help_option=False, context_settings=PASSED_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def index(arguments: tuple[str, ...]) -> None:
    """Make documents searchable (`ock index --help` tells how)."""
    become(MODULE, arguments)
