"""`ock ask` against a live host."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from openchatkit.errors import EngineFailed
from tests.client.conftest import Run
from tests.fakes import RuleModerator
from tests.house import House
from tests.local.live import LiveHost

ANSWER = "Revenue was 4.1 billion. [1]"


def test_an_answer_with_its_source(ock: Run, live_house: tuple[House, LiveHost]) -> None:
    live_house[0].engine.replies = [ANSWER]
    result = ock("ask", "What was revenue?")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [ANSWER, "", "[1] Report 1 (2026-02-14), Results"]
    assert re.fullmatch(r"session [0-9a-f]{32}\n", result.stderr)


def test_json_is_the_whole_reply_on_one_line(ock: Run, live_house: tuple[House, LiveHost]) -> None:
    live_house[0].engine.replies = [ANSWER]
    result = ock("ask", "What was revenue?", "--json")
    assert result.stdout.count("\n") == 1
    reply = json.loads(result.stdout)
    assert reply["generated_text"] == ANSWER
    assert reply["details"]["citations"][0]["number"] == 1


def test_a_conversation_goes_on(ock: Run, live_house: tuple[House, LiveHost]) -> None:
    house = live_house[0]
    house.engine.replies = [ANSWER, "And costs were 3. [1]"]
    session = ock("ask", "What was revenue?").stderr.split()[1]
    reply = json.loads(ock("ask", "And costs?", "--session", session, "--json").stdout)
    assert reply["details"]["turn"] == 2
    assert "What was revenue?" in house.engine.prompts[1]


def test_a_question_from_standard_input(ock: Run, live_house: tuple[House, LiveHost]) -> None:
    live_house[0].engine.replies = [ANSWER]
    assert ock("ask", "-", stdin="What was\nrevenue?\n").exit_code == 0
    assert "What was\nrevenue?" in live_house[0].engine.prompts[0]


def test_control_characters_of_an_answer_do_not_reach_the_terminal(
    ock: Run, live_house: tuple[House, LiveHost]
) -> None:
    live_house[0].engine.replies = ["\x1b]0;owned\x07 \x9b2J done. [1]"]
    result = ock("ask", "What was revenue?")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "\x9b" not in result.stdout
    assert "\x07" not in result.stdout


def test_a_moderated_answer_shows_the_verdict(ock: Run, live_house: tuple[House, LiveHost]) -> None:
    live_house[0].moderator.rule = RuleModerator(lambda human, bot: "needs intervention").rule
    result = ock("ask", "something bad")
    assert result.exit_code == 0
    assert re.search(
        r"\(overridden by moderation: the input was judged “needs intervention”, harm ", result.stdout
    )


def test_an_answer_overridden_while_it_comes(ock: Run, live_house: tuple[House, LiveHost]) -> None:
    house = live_house[0]
    house.moderator.rule = lambda human, bot: "needs intervention" if bot and "worse" in bot else "casual"
    house.engine.replies = ["All is well here. But then it gets worse and worse."]
    result = ock("ask", "What happened?")
    assert "worse" not in result.stdout
    assert "the output was judged" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", "  "], "Error: invalid_request: inputs: must not be empty\n"),
        (["ask", "hi", "--session", "unknown"], "Error: session_not_found: "),
        (["ask", "hi", "--session", "no good"], "Error: invalid_request: session_id: "),
        (["ask", "hi", "--url", "http://127.0.0.1:9"], "Error: nothing listens at http://127.0.0.1:9; "),
    ],
)
def test_a_refusal_is_one_line_and_exit_status_1(ock: Run, arguments: list[str], message: str) -> None:
    for extra in ([], ["--json"]):
        result = ock(*arguments, *extra)
        assert result.exit_code == 1
        assert result.stderr.startswith(message)
        assert result.stderr.count("\n") == 1
        assert result.stdout.strip() == ""


def test_a_failure_in_mid_answer(ock: Run, live_house: tuple[House, LiveHost]) -> None:
    live_house[0].engine.replies = [EngineFailed("the model could not go on")]
    result = ock("ask", "What was revenue?")
    assert result.exit_code == 1
    assert result.stderr == "Error: engine_failed: the model could not go on\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask"],
        ["ask", "hi", "--endpoint", "x", "--url", "http://127.0.0.1:1"],
        ["ask", "hi", "--region", "eu-west-1"],
        ["ask", "hi", "--bogus"],
        ["bogus"],
    ],
)
def test_wrong_usage_is_exit_status_2(ock: Run, arguments: list[str]) -> None:
    assert ock(*arguments).exit_code == 2


def test_the_users_own_conversations(ock: Run, live_house: tuple[House, LiveHost]) -> None:
    live_house[0].engine.replies = [ANSWER]
    session = ock("ask", "What was revenue?", "--user", "ann@example.com").stderr.split()[1]
    result = ock("ask", "And now?", "--session", session, "--user", "bob@example.com")
    assert result.stderr.startswith("Error: session_not_found: ")


def test_ctrl_c_stops_the_answer_and_says_so(live_house: tuple[House, LiveHost]) -> None:
    """The process is a real one: a signal to this one would end the tests."""
    house, host = live_house
    house.engine.delay_s = 0.01
    house.engine.replies = [" ".join(["word."] * 5_000)]
    process = subprocess.Popen(
        [sys.executable, "-c", "from client.cli import main; main(prog_name='ock')", "ask", "Go on"],
        env={**os.environ, "OCK_URL": host.url, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(5) == b"word."
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert time.monotonic() - began < 5
    assert process.returncode == 130
    assert out.endswith(b"(stopped)\n")
    assert err.startswith(b"session ")
    assert house.engine.generated < 5_000
    assert not house.engine.running
