"""The shell scripts of the builds, run for real, with programs that write down how they were called."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.stacks.synthesis import PLAIN, synthesize

TIME_LIMIT_S = 60
BASE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/djl-inference:1"
REPOSITORY = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/own"


def scripts(part: str, phase: str, **more: object) -> list[str]:
    project = synthesize(**{**PLAIN, **more}).only(part, "AWS::CodeBuild::Project")["Properties"]
    commands: list[str] = json.loads(project["Source"]["BuildSpec"])["phases"][phase]["commands"]
    return commands


def program(path: Path, body: str = "") -> None:
    """Put a program there that notes its arguments, one line a call."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/bash\nprintf "%s\\n" "{path.name} $*" >> "$CALLS"\n{body}\n')
    path.chmod(0o755)


def run(commands: Sequence[str], folder: Path, **environment: str) -> tuple[int, list[str]]:
    """Run the commands as CodeBuild does: one after the other, in one shell. Return status and calls."""
    calls = folder / "calls"
    done = subprocess.run(
        ["bash", "-c", "\n".join([*commands, "echo after-the-scripts >> $CALLS"])],
        cwd=folder,
        env={"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder), "CALLS": str(calls)}
        | environment,
        timeout=TIME_LIMIT_S,
        check=False,
        capture_output=True,
    )
    return done.returncode, calls.read_text().splitlines() if calls.exists() else []


@pytest.mark.parametrize("secret", ["", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:hub"])
def test_the_staging_program_is_called_as_its_usage_says(secret: str, tmp_path: Path) -> None:
    program(tmp_path / "venv" / "bin" / "python")
    (tmp_path / "program").mkdir()
    variables = {"MODEL": "a/b", "REVISION": "0" * 40, "BUCKET": "bucket", "KMS_KEY": "key"}
    _, calls = run(scripts("Weights", "build"), tmp_path, **variables, TOKEN_SECRET=secret)
    given = f"--model a/b --revision {'0' * 40} --bucket bucket --prefix weights --kms-key key"
    token = f" --token-secret {secret}" if secret else ""
    assert calls == [f"python -m staging {given}{token}", "after-the-scripts"]


def test_the_program_and_its_requirements_are_put_in_place(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "cli.py").write_text("")
    program(tmp_path / "pip")
    program(tmp_path / "bin" / "python3", 'mkdir -p "$3/bin" && cp "$HOME/pip" "$3/bin/pip"')
    done, calls = run([f"cd {source}", *scripts("Weights", "install")], tmp_path)
    assert done == 0
    assert (tmp_path / "program" / "staging" / "cli.py").is_file()
    assert calls[0] == f"python3 -m venv {tmp_path / 'venv'}"
    requirements = tmp_path / "program" / "staging" / "requirements.txt"
    assert calls[1] == f"pip install --quiet --require-hashes -r {requirements}"


@pytest.mark.parametrize("there", [False, True])
def test_an_image_is_built_unless_its_tag_is_there(there: bool, tmp_path: Path) -> None:
    program(
        tmp_path / "bin" / "aws",
        f'case "$*" in *batch-get-image*) echo {int(there)};; *get-login-password*) echo secret;; esac',
    )
    program(tmp_path / "bin" / "docker", "[ $1 != login ] || cat >/dev/null")
    variables = {"BASE_IMAGE": BASE, "BASE_REGION": "us-east-1", "REPOSITORY": "own", "TAG": "tag"}
    commands = scripts("Image", "build", image="codebuild")
    status, calls = run(commands, tmp_path, **variables, REPOSITORY_URI=REPOSITORY)
    assert status == 0
    assert calls[-1] == "after-the-scripts"
    docker = [call for call in calls if call.startswith("docker ")]
    expected = [
        "docker login --username AWS --password-stdin 763104351884.dkr.ecr.us-east-1.amazonaws.com",
        "docker login --username AWS --password-stdin 123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        f"docker build --platform linux/amd64 --build-arg BASE_IMAGE={BASE} -t {REPOSITORY}:tag .",
        f"docker push {REPOSITORY}:tag",
    ]
    assert docker == ([] if there else expected)


def test_a_build_that_fails_is_not_pushed(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "aws", 'case "$*" in *batch-get-image*) echo 0;; *) echo secret;; esac')
    program(tmp_path / "bin" / "docker", "[ $1 != login ] || cat >/dev/null; [ $1 != build ]")
    variables = {"BASE_IMAGE": BASE, "BASE_REGION": "us-east-1", "REPOSITORY": "own", "TAG": "tag"}
    commands = scripts("Image", "build", image="codebuild")
    _, calls = run(
        [*commands, "[ $? != 0 ] && echo failed >> $CALLS"], tmp_path, **variables, REPOSITORY_URI="r/o"
    )
    assert "failed" in calls
    assert not [call for call in calls if call.startswith("docker push")]
