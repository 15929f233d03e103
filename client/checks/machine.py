"""What a deployment needs of this machine: Python, Node, the CDK's command, Docker.

Programs are asked for their version with a time limit and without a shell. Nothing is installed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from client.checks.check import Outcome, ok, unknown, wrong
from client.terminal import one_line

PYTHON = (3, 11)
NODE = (20, 0)
"""The oldest Node that both the CDK's command and its Python library still work with."""
PROGRAM_TIMEOUT_S = 30.0
CDK_PACKAGE = "aws-cdk"

_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


def python_version(version: Sequence[int] = sys.version_info[:3]) -> Outcome:
    """Tell whether this interpreter can synthesize the app."""
    shown = ".".join(map(str, version))
    if tuple(version[:2]) < PYTHON:
        return wrong(shown, f"install Python {PYTHON[0]}.{PYTHON[1]} or newer")
    return ok(shown)


def node_version() -> Outcome:
    """Tell whether there is a Node that runs the CDK."""
    shown = _output(["node", "--version"])
    found = _version(shown)
    needed = f"install Node {NODE[0]} or newer (the CDK runs on it)"
    if shown is None:
        return wrong("there is no node", needed)
    if found is None:
        return unknown(f"`node --version` says {one_line(shown, 60)!r}", needed)
    return ok(shown) if found[:2] >= NODE else wrong(shown, needed)


def cdk_version(app_dir: Path) -> Outcome:
    """Tell whether the CDK's command is there in the version that the app's `package.json` pins."""
    pinned = pinned_cdk(app_dir)
    install = f"run `npm install` in {app_dir}"
    if pinned is None:
        return unknown(f"{app_dir / 'package.json'} pins no {CDK_PACKAGE}")
    command = cdk_command(app_dir)
    if command is None:
        return wrong("there is no cdk", f"{install} (`npx cdk` then runs version {pinned})")
    shown = _output([str(command), "--version"])
    found = _version(shown)
    if shown is None or found is None:
        return wrong(f"{command} does not start", install)
    version = ".".join(map(str, found))
    if version != pinned:
        return wrong(f"{version} ({command}), the app pins {pinned}", f"{install} and use `npx cdk`")
    return ok(f"{version} ({command})")


def docker() -> Outcome:
    """Tell whether a Docker daemon answers, which building the image here needs."""
    instead = "start Docker, or let AWS build the image: -c image=codebuild"
    if shutil.which("docker") is None:
        return wrong("there is no docker", instead.replace("start", "install", 1))
    version = _output(["docker", "version", "--format", "{{.Server.Version}}"])
    return (
        ok(f"daemon {one_line(version, 40)}")
        if version
        else wrong("the Docker daemon does not answer", instead)
    )


def cdk_command(app_dir: Path) -> Path | None:
    """Return the CDK's command: the app's own, else the one on the path."""
    for folder in (app_dir, app_dir / ".dev" / "cdk"):
        own = folder / "node_modules" / ".bin" / "cdk"
        if own.exists():
            return own
    found = shutil.which("cdk")
    return None if found is None else Path(found)


def pinned_cdk(app_dir: Path) -> str | None:
    """Return the exact version of the CDK's command that the app's `package.json` names."""
    try:
        package = json.loads((app_dir / "package.json").read_bytes())
        pinned = {**package.get("dependencies", {}), **package.get("devDependencies", {})}.get(CDK_PACKAGE)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return pinned if isinstance(pinned, str) else None


def _output(command: list[str]) -> str | None:
    """Return what a program prints, None where it is not there, fails or does not end."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - a fixed list, no shell
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROGRAM_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _version(text: str | None) -> tuple[int, int, int] | None:
    found = _VERSION.search(text or "")
    return None if found is None else (int(found[1]), int(found[2]), int(found[3] or 0))
