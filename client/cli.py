"""The `ock` command.

Exit status: 0 done, 1 an error, 2 wrong usage. Each command is a module of `client.commands`,
imported when it is called, so that `ock serve` waits for no boto3 and `ock --help` for nothing.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping

import click

from client.errors import ClientError
from client.terminal import printable

COMMANDS: Mapping[str, str] = {
    "ask": "client.commands.ask",
    "chat": "client.commands.chat",
    "cost": "client.commands.cost",
    "doctor": "client.commands.doctor",
    "domain": "client.commands.domain",
    "down": "client.commands.down",
    "index": "client.commands.index",
    "moderate": "client.commands.moderate",
    "moderation": "client.commands.moderation",
    "serve": "client.commands.serve",
    "stage": "client.commands.stage",
    "sweep": "client.commands.sweep",
    "up": "client.commands.up",
}


def load_command(name: str) -> click.Command:
    """Import and return a command; its module has an attribute of its name."""
    command = getattr(importlib.import_module(COMMANDS[name]), name)
    assert isinstance(command, click.Command)
    return command


class Commands(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, None where there is no such one."""
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; what goes wrong is one line."""
        try:
            return super().invoke(ctx)
        except ClientError as error:
            raise click.ClickException(printable(str(error))) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="openchatkit-sagemaker", message="%(version)s")
def main() -> None:
    """Talk to the OpenChatKit chatbot, on this machine or on SageMaker.

    Without --endpoint the commands speak to the local host, which `ock serve` starts.
    """
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # an answer may hold what a terminal's charset does not
            reconfigure(errors="replace")
