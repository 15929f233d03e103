"""Clients in a closed loop: so many at once, each asks anew as soon as it has its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer, as its client saw it. Times in seconds since it asked."""

    first_token: float
    """Until the model had made its first token."""
    first_text: float
    """Until the client had its first text."""
    total: float
    tokens: int
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Load:
    """All answers of a run."""

    samples: Sequence[Sample]
    wall: float
    processor: float
    """Seconds of processor time of this process, threads and all; the models' processes are others."""

    def figures(self) -> dict[str, float | int]:
        """Return the run's figures by name."""
        first = [sample.first_token for sample in self.samples]
        shown = [sample.first_text for sample in self.samples]
        return {
            "requests": len(self.samples),
            "tokens_per_s": sum(sample.tokens for sample in self.samples) / self.wall,
            "first_token_p50_s": quantile(first, 0.5),
            "first_token_p95_s": quantile(first, 0.95),
            "first_text_p50_s": quantile(shown, 0.5),
            "first_text_p95_s": quantile(shown, 0.95),
            "total_p50_s": quantile([sample.total for sample in self.samples], 0.5),
            "prompt_tokens": round(sum(sample.prompt_tokens for sample in self.samples) / len(self.samples)),
            "reply_tokens": round(sum(sample.tokens for sample in self.samples) / len(self.samples)),
            "wall_s": self.wall,
            "processors": self.processor / self.wall,
        }


async def closed_loop(clients: int, requests: int, ask: Callable[[int], Awaitable[Sample]]) -> Load:
    """Ask `requests` times from `clients` clients at once; `ask` gets the request's number.

    The first failure ends the run and is raised.
    """
    numbers = iter(range(requests))
    samples: list[Sample] = []

    async def client() -> None:
        for number in numbers:
            sample = await ask(number)
            samples.append(sample)

    began, busy = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(min(clients, requests)):
            group.create_task(client())
    return Load(samples, time.perf_counter() - began, time.process_time() - busy)


def quantile(values: Sequence[float], q: float) -> float:
    """Return a quantile by linear interpolation."""
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
