from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from local.chatbot import ock_command


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment in the folder that one stands in, with an `ock` in it."""
    program = tmp_path / ".venv" / "bin" / "ock"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.defpath)
    return program


@pytest.mark.usefixtures("beside")
def test_the_command_is_named_from_where_one_stands() -> None:
    assert ock_command("ask") == ".venv/bin/ock ask"
    assert ock_command("ask", 8091) == ".venv/bin/ock ask --url http://127.0.0.1:8091"


def test_the_command_is_named_in_full_from_elsewhere(
    beside: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert ock_command("ask") == f"{beside} ask"


def test_the_command_is_short_where_it_is_on_the_path(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{beside.parent}{os.pathsep}{os.defpath}")
    assert ock_command("serve") == "ock serve"
