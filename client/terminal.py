"""What reaches the user's terminal: text without control characters, colour only where it is wanted.

An answer quotes documents and models, and either may hold escape sequences that retitle a window,
move the cursor or hide text. None of them gets through, in text or in JSON.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import click

# C0 without tab and line feed, DEL and C1; line and paragraph separators; bidirectional overrides.
_DANGEROUS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return `text` with each character that could steer a terminal replaced by U+FFFD."""
    return _DANGEROUS.sub("�", text)


def one_line(text: str, width: int = 76) -> str:
    """Return the beginning of `text` on one printable line."""
    flat = " ".join(printable(text).split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def as_json(value: Mapping[str, Any]) -> str:
    """Return `value` as one line of JSON that is safe to look at: such characters are escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    return _DANGEROUS.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def wants_colour(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal that may be coloured (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Screen:
    """Standard output, as the commands write to it."""

    def __init__(self) -> None:
        self._colour = wants_colour(sys.stdout)
        self._at_line_start = True

    def write(self, text: str) -> None:
        """Write a piece of text at once."""
        if text:
            self._at_line_start = text.endswith("\n")
            click.echo(printable(text), nl=False, color=self._colour)
            sys.stdout.flush()

    def line(self, text: str = "", *, dim: bool = False, bold: bool = False, fg: str | None = None) -> None:
        """Write a line of its own."""
        if not self._at_line_start:
            click.echo()
        self._at_line_start = True
        shown = printable(text)
        if self._colour:
            shown = click.style(shown, dim=dim or None, bold=bold or None, fg=fg)
        click.echo(shown, color=self._colour)
