from __future__ import annotations

import asyncio
import gc

import pytest

from openchatkit.tasks import all_of, give_up


async def test_results_come_in_order() -> None:
    async def one(number: int) -> int:
        await asyncio.sleep(0.01 / (number + 1))
        return number

    assert await all_of(one(number) for number in range(3)) == [0, 1, 2]
    assert await all_of([]) == []


async def test_the_first_failure_ends_the_others() -> None:
    ended = asyncio.Event()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fails() -> None:
        await asyncio.sleep(0.01)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await all_of([waits(), fails()])
    await asyncio.wait_for(ended.wait(), 1)


async def test_what_is_given_up_says_nothing_any_more(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise ValueError("a user's text")

    failed, hanging = asyncio.create_task(fails()), asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    await give_up([failed, hanging])
    assert failed.done()
    assert hanging.cancelled()
    del failed, hanging
    gc.collect()
    assert caplog.text == ""


async def test_one_that_does_not_end_is_waited_for_so_long() -> None:
    go = asyncio.Event()

    async def stubborn() -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await asyncio.wait_for(give_up([task], 0.02), 1)
    assert not task.done()
    go.set()
    await task
