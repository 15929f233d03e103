"""`ock serve`: becomes `python -m local.serve`."""

from __future__ import annotations

import click

from client.programs import PASSED_ON, become

MODULE = "local.serve"


@click.command(
    short_help="Run the chatbot on this machine.", add_help_option=False, context_settings=PASSED_ON
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve(arguments: tuple[str, ...]) -> None:
    """Run the chatbot on this machine (`ock serve --help` tells how)."""
    become(MODULE, arguments)
