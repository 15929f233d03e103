"""`ock serve`: becomes `python -m local.serve`.

The host brings PyTorch and the chatbot along, which a client must not import; so this process is
replaced, and whatever it was given, `--help` too, is read over there.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import click

MODULE = "local.serve"


@click.command(
    short_help="Run the chatbot on this machine.",
    add_help_option=False,
    context_settings={
        "ignore_unknown_options": True,
        "allow_extra_args": True,
        "allow_interspersed_args": False,
    },
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve(arguments: tuple[str, ...]) -> None:
    """Run the chatbot on this machine (`ock serve --help` tells how)."""
    if importlib.util.find_spec(MODULE.partition(".")[0]) is None:
        raise click.ClickException(
            "the local host is not installed here; run this in a clone of the repository"
        )
    # -P: a folder `local` where the user stands must not be taken for ours.
    command = [sys.executable, "-P", "-m", MODULE, *arguments]
    if os.name == "nt":  # exec there returns to the shell at once
        sys.exit(subprocess.run(command, check=False).returncode)  # noqa: S603 - our own interpreter
    os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted
