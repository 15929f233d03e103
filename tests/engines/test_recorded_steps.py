"""The proof of recorded steps, against an engine that is wrong in the ways that such steps can be."""

from __future__ import annotations

import asyncio
import math

import pytest

from openchatkit.engines.recorded_steps import LARGEST, TOLERANCE, largest_difference, sizes

BLOCK = 16
LARGEST_STEP = 256


class Engine:
    """Likelihoods that depend on every token of a prompt, by way of a prefix cache and steps."""

    def __init__(self, *, wrong: str = "") -> None:
        self.wrong = wrong
        self.cached: set[tuple[int, ...]] = set()
        self.waiting: list[int] = []
        self.plain = self.recorded = self.mixed = 0

    async def forget(self) -> None:
        self.cached.clear()

    async def likelihoods(self, prompt: list[int], following: list[int]) -> dict[int, float]:
        full = (len(prompt) - 1) // BLOCK * BLOCK
        hit = max(n for n in range(0, full + 1, BLOCK) if n == 0 or tuple(prompt[:n]) in self.cached)
        self.cached |= {tuple(prompt[:n]) for n in range(BLOCK, len(prompt) + 1, BLOCK)}
        new = len(prompt) - hit
        self.waiting.append(new)
        await asyncio.sleep(0)  # all that ask at once are in one step
        together, recorded = len(self.waiting), sum(self.waiting) <= LARGEST_STEP
        await asyncio.sleep(0)
        self.waiting.clear()
        self.plain += not recorded
        self.recorded += recorded
        self.mixed += recorded and together > 1
        value = -1 - (sum(place * token for place, token in enumerate(prompt)) % 997) / 500
        broken = recorded and {"": False, "alone": together == 1, "together": together > 1}.get(
            self.wrong, True
        )
        if broken and self.wrong == "nan":
            value = math.nan
        elif broken:
            value += 1.0
        return dict.fromkeys(following, value + 0.01 * recorded)


async def difference(engine: Engine) -> float:
    return await largest_difference(
        engine.likelihoods, engine.forget, largest=LARGEST_STEP, context_length=512, vocabulary=400
    )


async def test_steps_that_only_round_otherwise_are_right() -> None:
    engine = Engine()
    assert await difference(engine) == pytest.approx(0.01)
    assert engine.cached == set()


async def test_plain_and_recorded_steps_are_compared_alone_and_together() -> None:
    engine = Engine()
    await difference(engine)
    assert engine.plain == 8 + 2  # the prompts, and what they have in common twice
    assert engine.recorded == 2 * 8
    assert engine.mixed == 8


@pytest.mark.parametrize("wrong", ["alone", "together", "always", "nan"])
async def test_wrong_steps_are_told(wrong: str) -> None:
    assert not await difference(Engine(wrong=wrong)) <= TOLERANCE


@pytest.mark.parametrize("context_length", [1, 48, 512, 2048, 8192])
def test_no_step_is_recorded_that_is_longer_than_half_the_context(context_length: int) -> None:
    recorded = sizes(context_length)
    assert recorded == sorted(set(recorded))
    assert recorded[0] == 1
    assert recorded[-1] <= max(1, context_length // 2)
    assert recorded[-1] <= LARGEST
    assert context_length < 2048 or recorded[-1] == LARGEST
