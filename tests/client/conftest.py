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
