"""No control character of an answer reaches the terminal; colour is for terminals."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.terminal import as_json, one_line, printable, wants_colour


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_printable_text_holds_no_control_but_tab_and_line_feed(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert not any(character < " " and character not in "\t\n" for character in shown)
    assert not any("\x7f" <= character <= "\x9f" for character in shown)


@pytest.mark.parametrize(
    "attack",
    ["\x1b]0;title\x07", "\x1b[2J", "\x9b31m", "a\rb", "\u202eexe.txt", "\u2066", "\x08", "\x7f", "\u2028"],
)
def test_escape_sequences_are_defused(attack: str) -> None:
    assert "�" in printable(attack)
    assert printable(printable(attack)) == printable(attack)


@given(st.dictionaries(st.text(), st.text()))
def test_json_is_one_safe_line_that_says_the_same(value: dict[str, str]) -> None:
    line = as_json(value)
    assert json.loads(line) == value
    assert printable(line) == line
    assert "\n" not in line


def test_one_line() -> None:
    assert one_line("a\n b\t c") == "a b c"
    assert one_line("x" * 100, 10) == "x" * 9 + "…"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_colour(_Terminal())
    assert not wants_colour(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_colour(_Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(_Terminal())
