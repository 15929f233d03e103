"""`ock serve` as a process: from its first line to its end, twice; and what it says when it cannot start."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from local.server import bind

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-4711"
START_S = 90


class Serve:
    """A running `ock serve --port 0`."""

    def __init__(self, *options: str) -> None:
        paths = os.pathsep.join([str(ROOT), str(ROOT / "handler")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "local.serve", "--port", "0", *options],
            env={**os.environ, "PYTHONPATH": paths, "NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self.process.stdout is not None
        self._output = self.process.stdout.fileno()
        self.said = ""

    def ready(self) -> int:
        """Wait until it says its address; return the port."""
        deadline = time.monotonic() + START_S
        while "Conversations are kept in" not in self.said:
            assert time.monotonic() < deadline, self.said
            if select.select([self._output], [], [], 1)[0]:
                piece = os.read(self._output, 65_536)
                assert piece, self.said
                self.said += piece.decode()
        return int(self.said.split("http://127.0.0.1:")[1].split()[0])

    def end(self) -> float:
        """Send what Ctrl-C sends; return the seconds it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        out, _ = self.process.communicate(timeout=20)
        self.said += out.decode()
        return time.monotonic() - began


@contextmanager
def serve(*options: str) -> Iterator[Serve]:
    running = Serve(*options)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def ask(port: int, **fields: object) -> tuple[int, dict[str, object]]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", "/invocations", json.dumps(fields))
        response = connection.getresponse()
        return response.status, json.loads(response.read())


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "note.md").write_text("# Note\n\nBrindle Works sold 412 looms in 2031.\n", encoding="utf-8")
    return folder


def test_two_runs(tiny: Path, documents: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    options = ["--model", str(tiny), "--docs", str(documents), "--data-dir", str(data), "--no-page"]
    with serve(*options) as first:
        port = first.ready()
        assert "Loading the chat model" in first.said
        question = f"How many looms did Brindle Works sell? {CANARY}"
        status, reply = ask(port, inputs=question, parameters={"max_new_tokens": 8})
        assert status == 200, reply
        details = reply["details"]
        assert isinstance(details, dict)
        assert details["retrieval"]["passages"] >= 1
        assert ask(port, inputs=CANARY, temperature=CANARY)[0] == 400
        assert first.end() < 2
        assert first.process.returncode == 0
        assert first.said.endswith("Stopped.\n")
        assert CANARY not in first.said
    assert data.stat().st_mode & 0o077 == 0
    with serve(*options) as second:
        port = second.ready()
        assert "Indexed" not in second.said
        session = details["session_id"]
        status, history = ask(port, requestType="HISTORY", session_id=session)
        assert status == 200
        turns = history["turns"]
        assert isinstance(turns, list)
        assert [turn["human"] for turn in turns] == [question]


def run(*options: str) -> tuple[int, str]:
    with serve(*options) as running:
        out, _ = running.process.communicate(timeout=START_S)
    return running.process.returncode, out.decode()


def test_a_taken_port(tiny: Path, tmp_path: Path) -> None:
    with closing(bind(0)) as taken:
        port = taken.getsockname()[1]
        code, said = run("--port", str(port), "--model", str(tiny), "--data-dir", str(tmp_path))
    assert code == 1
    assert said.startswith(f"ock serve: port {port} of 127.0.0.1 is in use")


@pytest.mark.parametrize(
    ("name", "message"), [("nothing", "there is no directory"), ("", "there is no config.json in it")]
)
def test_a_model_that_is_not_there(tmp_path: Path, name: str, message: str) -> None:
    code, said = run("--model", str(tmp_path / name), "--data-dir", str(tmp_path))
    assert code == 2
    assert said.startswith("ock serve: model: ")
    assert message in said


def test_a_data_folder_that_cannot_be_made(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, said = run("--model", str(tiny), "--data-dir", str(tmp_path / "file" / "data"), "--no-page")
    assert code == 1
    assert said.startswith("ock serve: Not a directory: ")
