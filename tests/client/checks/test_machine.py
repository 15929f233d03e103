"""Checks of this machine, with programs that a test puts on the path."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from client.checks import machine
from client.checks.machine import cdk_version, docker, node_version, pinned_cdk, python_version


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole search path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "package.json").write_text(json.dumps({"devDependencies": {"aws-cdk": "2.1148.1"}}))
    return folder


def test_python() -> None:
    assert python_version().status == "ok"
    assert python_version((3, 10, 9)).status == "wrong"


@pytest.mark.parametrize(
    ("script", "status", "detail"),
    [
        ("echo v24.1.0", "ok", "v24.1.0"),
        ("echo v20.0.0", "ok", "v20.0.0"),
        ("echo v18.20.1", "wrong", "v18.20.1"),
        ("echo nonsense", "unknown", "`node --version` says 'nonsense'"),
        ("exit 3", "wrong", "there is no node"),
    ],
)
def test_node(path: Path, script: str, status: str, detail: str) -> None:
    program(path, "node", script)
    outcome = node_version()
    assert (outcome.status, outcome.detail) == (status, detail)
    assert bool(outcome.advice) == (status != "ok")


def test_no_node(path: Path) -> None:
    assert node_version().detail == "there is no node"


@pytest.mark.usefixtures("path")
def test_the_apps_own_cdk_is_found_first(app: Path, path: Path) -> None:
    program(path, "cdk", "echo 1.0.0")
    program(app / "node_modules" / ".bin", "cdk", "echo '2.1148.1 (build abc)'")
    assert cdk_version(app).detail == f"2.1148.1 ({app}/node_modules/.bin/cdk)"


def test_another_version_than_the_one_pinned(app: Path, path: Path) -> None:
    program(path, "cdk", "echo 3.0.0")
    outcome = cdk_version(app)
    assert outcome.status == "wrong"
    assert "3.0.0" in outcome.detail
    assert "2.1148.1" in outcome.detail
    assert outcome.advice.startswith("run `npm install`")


def test_no_cdk(app: Path, path: Path) -> None:
    assert cdk_version(app).detail == "there is no cdk"


def test_a_cdk_that_does_not_start(app: Path, path: Path) -> None:
    program(path, "cdk", "exit 1")
    assert cdk_version(app).detail == f"{path}/cdk does not start"


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"devDependencies": []}', '{"devDependencies": {"aws-cdk": 2}}']
)
def test_a_package_that_pins_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "package.json").write_text(content)
    assert pinned_cdk(tmp_path) is None
    assert cdk_version(tmp_path).status == "unknown"


def test_docker(path: Path) -> None:
    assert docker().detail == "there is no docker"
    program(path, "docker", "exit 1")
    assert docker().detail == "the Docker daemon does not answer"
    assert "image=codebuild" in docker().advice
    program(path, "docker", "echo 28.1.1")
    assert docker().status == "ok"


def test_a_program_that_hangs_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROGRAM_TIMEOUT_S", 0.3)
    monkeypatch.setenv("PATH", f"{path}{os.pathsep}/bin{os.pathsep}/usr/bin")
    program(path, "docker", "exec sleep 60")
    assert docker().detail == "the Docker daemon does not answer"
