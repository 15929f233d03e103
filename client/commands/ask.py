"""`ock ask`: one question, one answer."""

from __future__ import annotations

import sys

import click

from client.options import Target, target_options
from client.terminal import Screen, as_json
from client.turns import Turn, show_details

INTERRUPTED = 130
"""Exit status of a program that Ctrl-C ended, as shells know it."""


@click.command(short_help="Ask a question.")
@click.argument("question")
@click.option("--session", metavar="ID", help="Go on with a conversation.")
@click.option("--json", "as_one_json", is_flag=True, help="Print the whole reply as one line of JSON.")
@target_options
def ask(target: Target, question: str, session: str | None, as_one_json: bool) -> None:
    """Ask QUESTION and print the answer with its sources; `-` reads the question from standard input.

    The answer is printed as it comes. The conversation's id follows on standard error, for --session.
    """
    text = sys.stdin.read() if question == "-" else question
    request = target.request(inputs=text, session_id=session)
    if as_one_json:
        click.echo(as_json(target.endpoint.invoke(request)))
        return
    screen = Screen()
    turn = Turn(target, request)
    reply = turn.show(screen)
    if reply is not None:
        screen.line()
        show_details(screen, reply)
    if turn.session_id is not None:
        click.echo(f"session {turn.session_id}", err=True)
    if turn.stopped:
        sys.exit(INTERRUPTED)
