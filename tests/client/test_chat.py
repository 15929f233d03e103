"""`ock chat`: piped in, and at a pseudo-terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.conftest import Run
from tests.house import House
from tests.local.live import LiveHost

ANSWER = "Revenue was 4.1 billion. [1]"
_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[=>])")


def chat(ock: Run, *lines: str) -> list[str]:
    result = ock("chat", stdin="".join(f"{line}\n" for line in lines))
    assert result.exit_code == 0, result.output
    return [line for line in result.stdout.splitlines() if line]


def test_the_conversation_goes_on_from_line_to_line(ock: Run, live_house: tuple[House, LiveHost]) -> None:
    house = live_house[0]
    house.engine.replies = [ANSWER, "Costs were 3."]
    assert chat(ock, "What was revenue?", "And costs?") == [
        ANSWER,
        "[1] Report 1 (2026-02-14), Results",
        "Costs were 3.",
    ]
    assert "What was revenue?" in house.engine.prompts[1]


def test_a_new_conversation_knows_nothing(ock: Run, live_house: tuple[House, LiveHost]) -> None:
    house = live_house[0]
    house.engine.replies = ["One.", "Two."]
    assert chat(ock, "First?", "/new", "Second?", "/quit", "Third?") == [
        "One.",
        "(a new conversation)",
        "Two.",
    ]
    assert "First?" not in house.engine.prompts[1]


def test_sessions_are_listed_and_opened(ock: Run, live_house: tuple[House, LiveHost]) -> None:
    house = live_house[0]
    house.engine.replies = ["One.", "Two.", "Three."]
    shown = chat(ock, "First?", "/new", "Second?", "/sessions", "/open 2", "Third?")
    listed = [line for line in shown if re.match(r"[* ] +\d ", line)]
    assert [line.split()[-1] for line in listed] == ["Second?", "First?"]
    assert listed[0].startswith("*")
    assert shown[-4:] == ["First?", "> First?", "One.", "Three."]
    assert "First?" in house.engine.prompts[2]
    assert "Second?" not in house.engine.prompts[2]


def test_history(ock: Run, live_house: tuple[House, LiveHost]) -> None:
    live_house[0].engine.replies = [ANSWER]
    shown = chat(ock, "/history", "What was revenue?", "/history")
    assert shown[0] == "(nothing was said yet)"
    assert shown[-3:] == ["> What was revenue?", ANSWER, "[1] Report 1 (2026-02-14), Results"]


@pytest.mark.parametrize("line", ["/open", "/open 7", "/open x", "/open ²"])
def test_open_wants_a_number_of_the_list(ock: Run, line: str) -> None:
    assert chat(ock, line) == ["/open takes a number of the list that /sessions shows"]


def test_an_unknown_command_is_not_asked_of_the_model(ock: Run) -> None:
    assert chat(ock, "/nope \x1b[2J") == ["no such command: /nope; /help lists them"]


def test_an_error_does_not_end_the_conversation(ock: Run, live_house: tuple[House, LiveHost]) -> None:
    live_house[0].engine.replies = ["Fine."]
    result = ock("chat", stdin="bad\x00\n\nGood?\n")
    lines = [line for line in result.stdout.splitlines() if line]
    assert lines[0].startswith("Error: invalid_request: inputs: ")
    assert lines[1] == "Fine."
    assert result.exit_code == 1


class Terminal:
    """`ock chat` at a pseudo-terminal."""

    def __init__(self, url: str, home: Path) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        environment = {
            **os.environ,
            "OCK_URL": url,
            "TERM": "xterm",
            "XDG_STATE_HOME": str(home),
            "PROMPT_TOOLKIT_NO_CPR": "1",  # nobody here answers where the cursor stands
        }
        environment.pop("NO_COLOR", None)
        code = "from client.cli import main; main(prog_name='ock')"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "chat"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self._raw = b""
        self._expected = 0

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def expect(self, text: str, seconds: float = 10) -> None:
        """Read until `text` stands on the screen, behind what was expected before."""
        deadline = time.monotonic() + seconds
        while True:
            shown = _ESCAPES.sub("", self._raw.decode("utf-8", "replace")).replace("\r", "")
            place = shown.find(text, self._expected)
            if place >= 0:
                self._expected = place + len(text)
                return
            assert time.monotonic() < deadline, f"{text!r} did not come: {shown[self._expected :]!r}"
            if select.select([self._master], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):  # the program has ended
                    self._raw += os.read(self._master, 65_536)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(live_house: tuple[House, LiveHost], tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(live_house[1].url, tmp_path)
    yield terminal
    terminal.close()


def test_ctrl_c_stops_the_answer_not_the_program(
    terminal: Terminal, live_house: tuple[House, LiveHost]
) -> None:
    house = live_house[0]
    house.engine.delay_s = 0.01
    house.engine.replies = [" ".join(f"word{number}." for number in range(5_000)), "Short. [1]"]
    terminal.expect("you>")
    terminal.type("Go on\r")
    terminal.expect("word3.")
    terminal.type("\x03")
    terminal.expect("(stopped)")
    terminal.expect("you>")
    assert house.engine.generated < 5_000
    assert not house.engine.running
    house.engine.delay_s = 0
    terminal.type("And?\r")
    terminal.expect("Report 1 (2026-02-14)")
    terminal.expect("you>")
    assert "word0." in house.engine.prompts[1]
    terminal.type("\x03")
    terminal.expect("leaves")
    terminal.type("/quit\r")
    assert terminal.process.wait(5) == 0


def test_ctrl_d_leaves_and_what_was_typed_is_kept_for_this_user_only(
    terminal: Terminal, live_house: tuple[House, LiveHost], tmp_path: Path
) -> None:
    live_house[0].engine.replies = [ANSWER]
    terminal.expect("you>")
    terminal.type("What was revenue?\r")
    terminal.expect("4.1 billion")
    terminal.expect("you>")
    terminal.type("\x1b[A")
    terminal.expect("What was revenue?")
    terminal.type("\x15\x04")
    assert terminal.process.wait(5) == 0
    history = tmp_path / "openchatkit" / "chat_history"
    assert "What was revenue?" in history.read_text(encoding="utf-8")
    assert history.stat().st_mode & 0o077 == 0


def test_a_second_ctrl_c_hangs_up(terminal: Terminal, live_house: tuple[House, LiveHost]) -> None:
    house = live_house[0]
    house.moderator.delay_s = 30
    terminal.expect("you>")
    terminal.type("Never\r")
    time.sleep(0.5)
    terminal.type("\x03")
    time.sleep(0.3)
    terminal.type("\x03")
    terminal.expect("you>", seconds=3)


def test_the_process_dies_of_a_hang_up(terminal: Terminal) -> None:
    terminal.expect("you>")
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.process.wait(5) != 0
