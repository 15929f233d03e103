"""Engines that close themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from openchatkit.engines.transformers_engine import TransformersEngine
from tests.engines.models import tiny_engine


@pytest.fixture
async def make_engine() -> AsyncIterator[Callable[..., TransformersEngine]]:
    """Make engines on tiny models; all are closed at the end, and none may hold a request then."""
    engines: list[TransformersEngine] = []

    def make(architecture: str = "gpt_neox", *, max_concurrent_requests: int = 8) -> TransformersEngine:
        engines.append(tiny_engine(architecture, max_concurrent_requests=max_concurrent_requests))
        return engines[-1]

    yield make
    for engine in engines:
        for _ in range(200):
            if not engine.active_requests:
                break
            await asyncio.sleep(0.01)
        held = engine.active_requests
        await engine.close()
        assert held == 0
