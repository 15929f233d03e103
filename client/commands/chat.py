"""`ock chat`: a conversation in the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from client.conversations import HELP, Conversations
from client.errors import ClientError
from client.options import Target, target_options
from client.terminal import Screen

PROMPT = "you> "


@click.command(short_help="Hold a conversation.")
@click.option("--session", metavar="ID", help="Go on with a conversation.")
@target_options
def chat(target: Target, session: str | None) -> None:
    """Hold a conversation; /help tells the commands.

    Answers are printed as they come. Ctrl-C stops an answer, not the program; Ctrl-D leaves. What
    you typed is kept for the up arrow in a file that only you can read.
    """
    screen = Screen()
    conversations = Conversations(target, screen, session)
    interactive = sys.stdin.isatty()
    read = prompt_line() if interactive else sys.stdin.readline
    if interactive:
        screen.line(HELP, dim=True)
    failed = False
    while True:
        try:
            line = read()
        except KeyboardInterrupt:
            screen.line("(Ctrl-D or /quit leaves)", dim=True)
            continue
        except EOFError:
            break
        if not line and not interactive:
            break
        if not line.strip():
            continue
        try:
            if not conversations.handle(line.strip()):
                break
        except ClientError as error:
            failed = True
            screen.line(f"Error: {error}", fg="red")
        except KeyboardInterrupt:
            screen.line()
    # Whoever pipes questions in reads the exit status; at a terminal the errors have been seen.
    sys.exit(1 if failed and not interactive else 0)


def prompt_line() -> Callable[[], str]:
    """Return a function that reads a line at the terminal, with history and completion."""
    commands = [line.split()[0] for line in HELP.splitlines() if line.startswith("/")]
    completer = WordCompleter(commands, sentence=True)
    session: PromptSession[str] = PromptSession(
        history=typed_history(), auto_suggest=AutoSuggestFromHistory(), completer=completer
    )
    return lambda: session.prompt(PROMPT)


def typed_history() -> History:
    """Return the history of typed lines, kept in memory where no file can be written."""
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "openchatkit"
    path = folder / "chat_history"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(path)
