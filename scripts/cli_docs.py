"""Write `docs/cli.md`, the help of every command: `python scripts/cli_docs.py [--check]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from client.cli import COMMANDS, load_command, main
from local.domain import domain
from local.indexing.__main__ import index
from local.serve import serve

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
WIDTH = 80
PROGRAMS = {"domain": domain, "index": index, "serve": serve}
"""Commands that hand their arguments to a program of this repository."""
INTRODUCTION = """\
# The `ock` command

<!-- Written by `python scripts/cli_docs.py` from the commands themselves; a test keeps it so. -->

`ock` comes with `make run`, as `.venv/bin/ock`. Its exit status is 0 when all went well, 1 after an
error (one line on standard error says which) and 2 when it was called wrongly. Colour is for
terminals; `NO_COLOR=1` switches it off. Control characters in answers never reach the terminal.

The commands speak SageMaker's runtime API. The local host gets unsigned requests and none of your
AWS settings; `--endpoint` calls SageMaker with the credentials that boto3 finds.
"""


def page() -> str:
    """Return the page."""
    whole = click.Context(main, info_name="ock", **_settings(main))
    sections = [f"```\n{main.get_help(whole)}\n```\n"]
    for name in sorted(COMMANDS):
        # A program of its own inherits nothing from `ock`.
        command = PROGRAMS.get(name) or load_command(name)
        parent = None if name in PROGRAMS else whole
        sections += _sections(command, parent, f"ock {name}" if parent is None else name)
    return "\n".join([INTRODUCTION, *sections])


def _sections(command: click.Command, parent: click.Context | None, shown: str) -> list[str]:
    """Return the section of a command, and those of its own commands."""
    context = click.Context(command, parent=parent, info_name=shown, **_settings(command))
    sections = [f"## `{context.command_path}`\n\n```\n{command.get_help(context)}\n```\n"]
    for name, below in sorted(command.commands.items()) if isinstance(command, click.Group) else ():
        sections += _sections(below, context, name)
    return sections


def _settings(command: click.Command) -> dict[str, Any]:
    return {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}


if __name__ == "__main__":
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit("docs/cli.md is not what the commands say; run: python scripts/cli_docs.py")
