"""Fixtures that more than one area uses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.house import House


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A service whose engine answers what the test queues."""
    house = House(tmp_path)
    yield house
    await house.service.close()
