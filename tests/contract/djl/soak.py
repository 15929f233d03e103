"""Two thousand turns under DJL's engine: memory stays, and whatever ends a turn frees its place.

    make soak

Not in the default run: it takes minutes. Turns are answered, streamed, stateless, moderated, cancelled,
too long for the model in mid-stream, refused, and left by their client, eight at once, on a tiny model;
the judge is the real one. Prints the worker's resident memory as it goes.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.contract.djl.conftest import DjlServer

pytestmark = [pytest.mark.java, pytest.mark.timeout(3600)]

TURNS = int(os.environ.get("SOAK_TURNS", "2000"))
AT_ONCE = 8
WARM_UP = 0.25
"""Share of the turns after which memory counts: allocators and caches fill at first."""
TOLERANCE = 0.05
ENGINE_SLOTS = 32
REPORTS = 20

Turn = Callable[[httpx.AsyncClient, int], Awaitable[str]]


async def answered(client: httpx.AsyncClient, number: int) -> str:
    answer = await client.post("/invocations", json={"inputs": f"What was revenue in {number}?"})
    return str(answer.json()["details"]["finish_reason"])


async def continued(client: httpx.AsyncClient, number: int) -> str:
    opened = await client.post("/invocations", json={"requestType": "NEW_SESSION"})
    owned = {"session_id": opened.json()["session_id"]}
    for question in ("Revenue?", "And debt?"):
        body = {"inputs": f"{question} {number}", "stream": True, **owned}
        answer = await client.post("/invocations", json=body)
    history = await client.post("/invocations", json={"requestType": "HISTORY", **owned})
    assert len(history.json()["turns"]) == 2
    assert (await client.post("/invocations", json={"requestType": "DELETE", **owned})).status_code == 200
    return str(json.loads(answer.text.strip().split("\n")[-1])["details"]["finish_reason"])


async def stateless(client: httpx.AsyncClient, number: int) -> str:
    messages = [{"role": "user", "content": f"What was revenue in {number}?"}]
    answer = await client.post("/invocations", json={"messages": messages})
    return str(answer.json()["details"]["finish_reason"])


async def moderated(client: httpx.AsyncClient, number: int) -> str:
    body = {"inputs": "How do I kill my neighbour with poison?"}
    return str((await client.post("/invocations", json=body)).json()["details"]["finish_reason"])


async def cancelled(client: httpx.AsyncClient, number: int) -> str:
    long = {"parameters": {"max_new_tokens": 2048}, "moderation": {"output": False}}
    body = {"inputs": f"Tell me all about {number}", "stream": True, **long}
    async with client.stream("POST", "/invocations", json=body) as answer:
        lines = answer.aiter_lines()
        session_id = json.loads(await anext(lines))["details"]["session_id"]
        await anext(lines)
        await client.post("/invocations", json={"requestType": "CANCEL", "session_id": session_id})
        *_, last = [line async for line in lines if line]
    return str(json.loads(last)["details"]["finish_reason"])


async def too_long(client: httpx.AsyncClient, number: int) -> str:
    body = {"inputs": f"{number} " + "revenue 4.1 " * 1300, "stream": True}
    answer = await client.post("/invocations", json=body)
    return str(json.loads(answer.text.strip().split("\n")[-1])["error"].split(":")[0])


async def refused(client: httpx.AsyncClient, number: int) -> str:
    answer = await client.post("/invocations", json={"inputs": f"q {number}", "session_id": "missing"})
    return str(answer.json()["error"].split(":")[0])


async def left(client: httpx.AsyncClient, number: int) -> str:
    body = {"inputs": f"What was revenue in {number}?", "stream": True}
    async with client.stream("POST", "/invocations", json=body) as answer:
        await anext(answer.aiter_lines())
    return "left"


KINDS: tuple[tuple[Turn, set[str]], ...] = (
    (answered, {"length", "moderated"}),
    (continued, {"length", "moderated"}),
    (stateless, {"length", "moderated"}),
    (moderated, {"moderated"}),
    (cancelled, {"cancelled"}),
    (too_long, {"invalid_request"}),
    (refused, {"session_not_found"}),
    (left, {"left"}),
)


def report(turns: int, seconds: float, resident_bytes: int) -> None:
    print(f"{turns:5d} turns {seconds:6.0f} s {resident_bytes / 1e6:7.1f} MB", flush=True)  # noqa: T201


async def test_two_thousand_turns(server: DjlServer) -> None:
    numbers = iter(range(TURNS))
    ends: Counter[str] = Counter()
    memory: list[int] = []
    began = time.monotonic()

    async def client_of_many(client: httpx.AsyncClient) -> None:
        for number in numbers:
            turn, expected = KINDS[number % len(KINDS)]
            end = await turn(client, number)
            assert end in expected, (turn.__name__, end)
            ends[f"{turn.__name__}: {end}"] += 1
            if sum(ends.values()) % (TURNS // REPORTS) == 0:
                memory.append(server.resident_bytes("chat2"))
                report(sum(ends.values()), time.monotonic() - began, memory[-1])

    async with server.client("chat2") as client, asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(client_of_many(client))
    print(json.dumps({"turns": TURNS, "ends": ends, "resident_bytes": memory}))  # noqa: T201
    # Every place is free again: as many turns as the engine computes at once run through.
    async with server.client("chat2") as client:
        assert set(await asyncio.gather(*(answered(client, n) for n in range(ENGINE_SLOTS)))) <= {
            "length",
            "moderated",
        }
    warm = memory[int(WARM_UP * REPORTS) - 1]
    assert max(memory[int(WARM_UP * REPORTS) :]) <= (1 + TOLERANCE) * warm
