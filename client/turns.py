"""One turn, as a command shows it: the text while it comes, Ctrl-C that stops it, what is said after.

The answer is received in a thread of its own, and Ctrl-C raises nothing meanwhile: it asks the
chatbot to stop (CANCEL), and the stream goes on to its regular end, where the turn is stored with
what was shown. A second Ctrl-C, or a chatbot that does not end, hangs up.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from client.errors import CallFailed, ClientError
from client.options import Target
from client.terminal import Screen, one_line
from client.transport import Stream

CANCEL_WAIT_S = 10.0
"""How long a cancelled answer may take to end by itself."""
_POLL_S = 0.1

Fields = dict[str, Any]


class Turn:
    """A turn in flight."""

    def __init__(self, target: Target, request: Mapping[str, Any]) -> None:
        self._target = target
        self._request = dict(request)
        self.session_id: str | None = request.get("session_id")
        self.shown = ""
        self.stopped = False
        self._cancelled = False
        self._deadline: float | None = None
        self._received: queue.SimpleQueue[Fields | ClientError | None] = queue.SimpleQueue()
        self._stream: Stream | None = None

    def show(self, screen: Screen) -> Fields | None:
        """Print the text as it comes; return the last event's fields, None where it was hung up.

        Raises:
            ClientError: the chatbot refused, or the answer broke off.
        """
        reply: Fields | None = None
        with _on_interrupt(self.stop):
            threading.Thread(target=self._receive, name="receiving", daemon=True).start()
            for fields in self._events():
                self.session_id = fields.get("details", {}).get("session_id") or self.session_id
                self._cancel_when_known()
                if "generated_text" in fields:
                    reply = fields
                text = fields.get("token", {}).get("text", "")
                self.shown += text
                screen.write(text)
        if reply is not None:
            self._show_rest(screen, reply["generated_text"])
        return reply

    def stop(self) -> None:
        """Ask the chatbot to stop; asked twice, wait for it no longer."""
        wait = 0.0 if self.stopped else CANCEL_WAIT_S
        self.stopped = True
        self._deadline = time.monotonic() + wait
        self._cancel_when_known()

    def _show_rest(self, screen: Screen, text: str) -> None:
        """Print what the last event holds beyond the pieces; all of it where they differ."""
        if text.startswith(self.shown):
            screen.write(text[len(self.shown) :])
        elif text.strip() != self.shown.strip():
            screen.line()
            screen.write(text)

    def _receive(self) -> None:
        try:
            self._stream = self._target.endpoint.stream(self._request)
            for fields in self._stream:
                self._received.put(fields)
            self._received.put(None)
        except ClientError as error:
            self._received.put(error)
        except Exception as error:  # noqa: BLE001 - a closed connection fails in ways of its library
            failed = CallFailed("the answer broke off")
            failed.__cause__ = error
            self._received.put(failed)

    def _events(self) -> Iterator[Fields]:
        while True:
            if self._deadline is not None and time.monotonic() > self._deadline:
                self._hang_up()
                return
            try:
                event = self._received.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if event is None:
                return
            if isinstance(event, ClientError):
                raise event
            yield event

    def _cancel_when_known(self) -> None:
        """Send CANCEL, once, as soon as it is wished and the session's id is known."""
        if not self.stopped or self._cancelled or self.session_id is None:
            return
        self._cancelled = True
        request = self._target.request(requestType="CANCEL", session_id=self.session_id)
        # In a thread: the stream's end must be seen while the wish is still on its way.
        threading.Thread(target=self._send_cancel, args=(request,), name="cancelling", daemon=True).start()

    def _send_cancel(self, request: Fields) -> None:
        try:
            self._target.endpoint.invoke(request)
        except ClientError:
            self._deadline = time.monotonic()

    def _hang_up(self) -> None:
        if self._stream is not None:
            self._stream.close()


@contextlib.contextmanager
def _on_interrupt(act: Callable[[], None]) -> Iterator[None]:
    """Have Ctrl-C call `act` instead of raising KeyboardInterrupt wherever the program happens to be."""
    before = signal.signal(signal.SIGINT, lambda _number, _frame: act())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def show_details(screen: Screen, reply: Mapping[str, Any]) -> None:
    """Print what stands under an answer: why it ended early, the verdict, the sources."""
    details = reply["details"]
    notice = {
        "length": "cut off at the length limit",
        "cancelled": "stopped",
        "out_of_domain": "outside what this chatbot is for",
        "moderated": _verdict(details.get("moderation") or {}),
    }.get(details.get("finish_reason", ""))
    if notice is not None:
        screen.line(f"({notice})", fg="yellow")
    for source in (details.get("retrieval") or {}).get("failures", {}):
        screen.line(f"(the source {source} could not be searched)", fg="yellow")
    for citation in details.get("citations", []):
        show_citation(screen, citation)


def show_citation(screen: Screen, citation: Mapping[str, Any]) -> None:
    """Print a source that an answer cites."""
    dated = f" ({citation['date']})" if citation.get("date") else ""
    place = f", {one_line(citation['place'])}" if citation.get("place") else ""
    screen.line(f"[{citation['number']}] {one_line(citation['title'])}{dated}{place}", dim=True)
    if citation.get("url"):
        screen.line(f"    {citation['url']}", dim=True)


def _verdict(moderation: Mapping[str, Any]) -> str:
    """Return which direction was judged how; the more harmful one where both were."""
    judged = [(verdict["harm"], side, verdict["label"]) for side, verdict in moderation.items() if verdict]
    if not judged:
        return "overridden by moderation"
    harm, side, label = max(judged)
    return f"overridden by moderation: the {side} was judged “{label}”, harm {harm:.2f}"
