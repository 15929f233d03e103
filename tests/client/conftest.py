"""Fixtures of the client's tests: a live host around a real service with a queued engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from client.cli import main
from local.host import create_app
from openchatkit.invocations import Invocations
from tests.house import House
from tests.local.live import LiveHost, serving
from tests.support.local_aws import LocalAws, serve_aws

Run = Callable[..., Result]


@pytest.fixture
def live_house(tmp_path: Path) -> Iterator[tuple[House, LiveHost]]:
    """A service whose engine answers what the test queues, behind a listening host."""
    house = House(tmp_path)
    with serving(create_app(Invocations(house.service))) as live:
        yield house, live
    asyncio.run(house.service.close())


@pytest.fixture
def ock(live_house: tuple[House, LiveHost], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run `ock` in this process against the live host."""
    monkeypatch.setenv("OCK_URL", live_house[1].url)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("OCK_USER", raising=False)

    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, arguments, input=stdin, prog_name="ock")

    return run


@pytest.fixture(scope="session")
def aws_server() -> Iterator[LocalAws]:
    """AWS on this machine."""
    with serve_aws() as server:
        yield server


@pytest.fixture
def aws(aws_server: LocalAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    """AWS on this machine, empty, and an environment in which boto3 knows nothing else."""
    aws_server.take_over(monkeypatch)
    yield aws_server
    aws_server.ignore_permissions()


@pytest.fixture
def operate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `ock` in this process, in a folder with an app named Chat."""
    app = tmp_path / "app"
    app.mkdir()
    (app / "cdk.json").write_text('{"app": "python app.py", "context": {"name": "Chat"}}')
    monkeypatch.chdir(app)

    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, arguments, input=stdin, prog_name="ock")

    return run
