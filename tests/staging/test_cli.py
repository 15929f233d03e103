"""The program as a process: arguments, exit status, one-line reasons, a kill in mid-download."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from staging.cli import main
from tests.staging.conftest import CONFIG, MODEL, Bench, client
from tests.support.hub import FakeHub, HubRepo
from tests.support.local_aws import ROOT, LocalAws

TOKEN = "hf_canaryCanaryCanary"
LIMIT_S = 60
NO_SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:none-AbCdEf"
SHARD = save({"weight": torch.zeros(300_000)})
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def two_shards() -> dict[str, bytes]:
    index = {"metadata": {}, "weight_map": {"weight": FIRST, "other": SECOND}}
    return {
        "config.json": CONFIG,
        FIRST: SHARD,
        SECOND: save({"other": torch.ones(300_000)}),
        "model.safetensors.index.json": json.dumps(index).encode(),
    }


def environment(aws: LocalAws, hub: FakeHub, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "hf"),
        **aws.environment,
        **hub.environment(),
    }


def start(arguments: list[str], environ: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "staging", *arguments],
        cwd=ROOT,
        env=dict(environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def command(bench: Bench, repo: HubRepo, *more: str) -> list[str]:
    base = ["--model", repo.repo_id, "--revision", repo.commit, "--bucket", bench.name]
    return [*base, "--work-dir", str(bench.work_dir), "--workers", "2", *more]


@pytest.fixture
def here(aws: LocalAws, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let this process see the local AWS, as a new one does from its environment."""
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_killed_download_goes_on_where_it_was(
    bench: Bench, aws: LocalAws, hub: FakeHub, tmp_path: Path
) -> None:
    repo = hub.add_repo(MODEL, two_shards())
    hub.faults.hold_after[SECOND] = 500_000
    environ = environment(aws, hub, tmp_path)
    with start(command(bench, repo), environ) as process:
        assert hub.faults.held.wait(LIMIT_S)
        done = bench.work_dir / f"model--org--tiny-chat--{repo.commit}" / "hub"
        deadline = time.monotonic() + LIMIT_S
        while not all((done / name).exists() for name in two_shards() if name != SECOND):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
    assert process.returncode == -9
    assert bench.keys() == {}
    assert list(done.rglob("*.incomplete"))

    hub.faults.hold_after.clear()
    hub.faults.released.set()
    hub.requests.clear()
    with start(command(bench, repo), environ) as process:
        out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, err) == (0, "")
    assert {request.path for request in hub.downloads()} == {f"/cdn/{repo.files[SECOND].sha256}"}
    assert "4 uploaded, 0 were there" in out
    assert "downloaded 2.4 MB of 2.4 MB" in out
    assert set(bench.keys()) == {*two_shards(), "manifest.json"}
    assert not list(bench.work_dir.rglob("*.incomplete"))


def test_a_gated_model_with_the_token_of_a_secret(
    bench: Bench, aws: LocalAws, hub: FakeHub, tmp_path: Path
) -> None:
    """The token comes from the secret, works, and is nowhere to be read afterwards."""
    secrets = client(aws, "secretsmanager")
    arn = secrets.create_secret(Name=f"hub-{bench.name}", SecretString=json.dumps({"token": TOKEN}))["ARN"]
    repo = hub.add_repo(MODEL, two_shards(), tokens=frozenset({TOKEN}))
    with start(command(bench, repo, "--token-secret", arn), environment(aws, hub, tmp_path)) as process:
        out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, err) == (0, "")
    assert TOKEN in {request.token for request in hub.requests}
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert TOKEN not in out
    assert TOKEN.encode() not in written


def test_a_gated_model_without_a_token_is_one_line(
    bench: Bench, hub: FakeHub, here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here.setattr("staging.cli.Hub", bench.reader)
    repo = hub.add_repo(MODEL, two_shards(), tokens=frozenset({TOKEN}))
    assert main(command(bench, repo)) == 1
    assert capsys.readouterr().err == (
        "staging: model org/tiny-chat is gated: accept its terms on the hub; "
        "name a token with --token-secret\n"
    )
    assert bench.keys() == {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (["--model", "org/none"], "the hub shows no model org/none: wrong id, or private to others"),
        (["--revision", "0" * 40], f"model org/tiny-chat has no revision {'0' * 40}"),
        (["--revision", "v9"], "model org/tiny-chat has no revision v9"),
        (["--bucket", "no-such-bucket-here"], "the bucket no-such-bucket-here does not exist"),
        (
            ["--token-secret", TOKEN],
            "--token-secret takes the ARN of a secret in Secrets Manager, never a token",
        ),
        (
            ["--token-secret", NO_SECRET],
            f"the secret {NO_SECRET} cannot be read: ResourceNotFoundException",
        ),
    ],
)
def test_what_cannot_be_is_one_line(
    bench: Bench,
    hub: FakeHub,
    here: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    reason: str,
) -> None:
    here.setattr("staging.cli.Hub", bench.reader)
    repo = hub.add_repo(MODEL, two_shards())
    assert main(command(bench, repo, *change)) == 1
    assert capsys.readouterr().err == f"staging: {reason}\n"
    assert bench.keys() == {}


def test_no_credentials(
    bench: Bench, hub: FakeHub, here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here.setattr("staging.cli.Hub", bench.reader)
    here.delenv("AWS_ACCESS_KEY_ID")
    here.delenv("AWS_SECRET_ACCESS_KEY")
    repo = hub.add_repo(MODEL, two_shards())
    assert main(command(bench, repo)) == 1
    assert capsys.readouterr().err == "staging: there are no AWS credentials here\n"


def test_a_branch_is_named_with_its_commit_and_refused(
    bench: Bench, hub: FakeHub, here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here.setattr("staging.cli.Hub", bench.reader)
    repo = hub.add_repo(MODEL, two_shards())
    assert main(command(bench, repo, "--revision", "main")) == 1
    assert capsys.readouterr().err == (
        f"staging: main is a name that can move; org/tiny-chat is at {repo.commit} now: "
        "give that as --revision, or add --allow-moving\n"
    )
    assert main(command(bench, repo, "--revision", "main", "--allow-moving", "--prefix", "a/b")) == 0
    listed = bench.s3.list_objects_v2(Bucket=bench.name)["Contents"]
    assert f"a/b/{MODEL}/{repo.commit}/manifest.json" in {item["Key"] for item in listed}


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["--model", "org/m", "--dataset", "org/d"],
        ["--model", "../../etc", "--revision", "a" * 40, "--bucket", "b"],
        ["--model", "org/m", "--revision", "a b", "--bucket", "b"],
        ["--model", "org/m", "--revision", "a" * 40, "--bucket", "b", "--files", "*"],
        ["--dataset", "org/d", "--revision", "a" * 40, "--bucket", "b"],
        ["--model", "org/m", "--revision", "a" * 40, "--bucket", "b", "--workers", "0"],
        ["--model", "org/m", "--revision", "a" * 40, "--bucket", "b", "--prefix", "/etc/"],
        ["--model", "org/m", "--revision", "a" * 40],
    ],
)
def test_wrong_usage(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(wrong)
    assert stopped.value.code == 2
    assert "error: " in capsys.readouterr().err
