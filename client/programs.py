"""Programs of this repository that a command becomes.

They bring PyTorch and the chatbot along, which a client must not import; so this process is replaced,
and whatever it was given, `--help` too, is read over there.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence

import click

PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}
"""Context settings of a command that hands all its arguments on."""


def become(module: str, arguments: Sequence[str]) -> None:
    """Replace this process by a module's program.

    Raises:
        click.ClickException: the repository is not here.
    """
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise click.ClickException(
            "the local host is not installed here; run this in a clone of the repository"
        )
    # -P: a folder `local` where the user stands must not be taken for ours.
    command = [sys.executable, "-P", "-m", module, *arguments]
    if os.name == "nt":  # exec there returns to the shell at once
        sys.exit(subprocess.run(command, check=False).returncode)  # noqa: S603 - our own interpreter
    os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted
