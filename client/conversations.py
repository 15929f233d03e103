"""A user's conversations in the terminal: which one goes on, the list of all, what was said."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from client.errors import Refused
from client.options import Target
from client.terminal import Screen, one_line
from client.turns import Turn, show_citation, show_details

LISTED = 20
"""Conversations that /sessions shows."""
HELP = """\
/new         begin a new conversation
/sessions    list your conversations
/open N      go on with number N of that list
/history     show what was said in this one
/help        show this
/quit        leave (so does Ctrl-D)
Ctrl-C stops an answer."""


class Conversations:
    """What `ock chat` does with a line of input."""

    def __init__(self, target: Target, screen: Screen, session_id: str | None = None) -> None:
        self._target = target
        self._screen = screen
        self._listed: list[Mapping[str, Any]] = []
        self.session_id = session_id

    def handle(self, line: str) -> bool:
        """Ask a question or obey a command; False where the user leaves."""
        if not line.startswith("/"):
            self.ask(line)
            return True
        name, _, argument = line.partition(" ")
        match name:
            case "/quit" | "/exit":
                return False
            case "/new":
                self.session_id = None
                self._screen.line("(a new conversation)", dim=True)
            case "/sessions":
                self.list_sessions()
            case "/open":
                self.open(argument.strip())
            case "/history":
                self.show_history()
            case "/help":
                self._screen.line(HELP)
            case _:
                self._screen.line(f"no such command: {one_line(name)}; /help lists them", fg="yellow")
        return True

    def ask(self, text: str) -> None:
        """Ask, show the answer as it comes and its sources; the conversation goes on with it."""
        turn = Turn(self._target, self._target.request(inputs=text, session_id=self.session_id))
        try:
            reply = turn.show(self._screen)
        except Refused as error:
            if error.code == "session_not_found":
                # It was deleted elsewhere: the next question must not fail for the same reason.
                self.session_id = None
            raise
        finally:
            self._screen.line()
        self.session_id = turn.session_id
        if reply is not None:
            show_details(self._screen, reply)

    def list_sessions(self) -> None:
        """Show the newest conversations with the numbers that `open` takes."""
        request = self._target.request(requestType="SESSIONS", limit=LISTED)
        self._listed = self._target.endpoint.invoke(request)["sessions"]
        if not self._listed:
            self._screen.line("(no conversations yet)", dim=True)
        for number, session in enumerate(self._listed, start=1):
            mark = "*" if session["session_id"] == self.session_id else " "
            title = one_line(session["title"] or "(untitled)", 56)
            self._screen.line(f"{mark}{number:>3}  {_moment(session['updated_at'])}  {title}")

    def open(self, number: str) -> None:
        """Go on with a conversation of the list and show its last turns."""
        if not self._listed:
            request = self._target.request(requestType="SESSIONS", limit=LISTED)
            self._listed = self._target.endpoint.invoke(request)["sessions"]
        if not number.isdecimal() or not 1 <= int(number) <= len(self._listed):
            self._screen.line("/open takes a number of the list that /sessions shows", fg="yellow")
            return
        self.session_id = self._listed[int(number) - 1]["session_id"]
        self.show_history(limit=5)

    def show_history(self, limit: int = 100) -> None:
        """Show the newest turns of this conversation, oldest first."""
        if self.session_id is None:
            self._screen.line("(nothing was said yet)", dim=True)
            return
        request = self._target.request(requestType="HISTORY", session_id=self.session_id, limit=limit)
        history = self._target.endpoint.invoke(request)
        self._screen.line(one_line(history["title"] or "(untitled)"), bold=True)
        if history["more"]:
            self._screen.line("(earlier turns are not shown)", dim=True)
        for turn in history["turns"]:
            self._screen.line(f"> {turn['human']}", fg="cyan")
            self._screen.line(turn["bot"])
            for citation in turn["citations"]:
                show_citation(self._screen, citation)


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
