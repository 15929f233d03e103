"""The command as a whole: its documentation, what it imports, how it starts the local host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from client.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "handler")])
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def imported_by(code: str) -> set[str]:
    """Return the top-level modules that are loaded after `code`."""
    result = run(
        "-c", f"{code}\nimport json, sys; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_the_documentation_is_what_the_commands_say() -> None:
    result = run("scripts/cli_docs.py", "--check")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_listed(name: str) -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert f"\n  {name} " in result.stdout


def test_help_waits_for_nothing_heavy() -> None:
    heavy = {"boto3", "prompt_toolkit", "fastapi", "torch", "openchatkit", "local"}
    assert not heavy & imported_by("import client.cli")
    assert not heavy & imported_by("import client.cli, client.commands.serve")


@pytest.mark.parametrize("name", ["ask", "chat", "moderate"])
def test_a_client_command_imports_neither_the_chatbot_nor_the_host(name: str) -> None:
    assert not {"openchatkit", "local", "torch", "fastapi"} & imported_by(f"import client.commands.{name}")


@pytest.mark.parametrize("name", ["cost", "doctor", "down", "stage", "sweep", "up"])
def test_an_operating_command_needs_no_cdk(name: str) -> None:
    heavy = {"aws_cdk", "openchatkit", "local", "torch", "fastapi", "huggingface_hub"}
    assert not heavy & imported_by(f"import client.commands.{name}")


def test_serve_becomes_the_local_host() -> None:
    code = "from client.cli import main; main(prog_name='ock')"
    result = run("-c", code, "serve", "--help")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("Usage: ock serve [OPTIONS]")
    assert "--docs" in result.stdout


def test_serve_is_not_fooled_by_a_folder_of_the_users(tmp_path: Path) -> None:
    fake = tmp_path / "local"
    fake.mkdir()
    (fake / "__init__.py").write_text("")
    (fake / "serve.py").write_text("print('canary')")
    result = run("-c", "from client.cli import main; main(prog_name='ock')", "serve", "--help", cwd=tmp_path)
    assert "canary" not in result.stdout
    assert result.stdout.startswith("Usage: ock serve [OPTIONS]")


def test_wrong_usage_of_serve_is_exit_status_2() -> None:
    assert run("-m", "local.serve", "--port", "99999").returncode == 2
    assert run("-m", "local.serve", "--docs", "/no/such/folder").returncode == 2


def test_version() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.strip()
