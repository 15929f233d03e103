"""The whole local turn as a client sees it, at 1 and at 8 clients at once.

    python -m bench.local_turn [--turns 40] [--clients 1 8] [--model DIR_OR_ID]

Starts the host (`python -m local.serve`) in a folder of its own and asks the sample library's
questions over SageMaker's runtime API, streamed: moderation on both sides, retrieval and storage
included. Times are the client's, except where the column says `server`: those come from the reply's
own `timings`. It says nothing about quality (`tests/library`) nor about a GPU (`bench/gpu`).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from client.transport import Endpoint

QUESTIONS = Path(__file__).resolve().parent.parent / "tests" / "library" / "questions.jsonl"
START_TIMEOUT_S = 300


@dataclass(frozen=True)
class Measured:
    """One turn. Times in seconds."""

    first_text: float
    total: float
    tokens: int
    server: dict[str, Any]


@contextmanager
def running_host(arguments: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Run the host on a free port; yields its address and the seconds until it was ready."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "local.serve", "--port", "0", "--no-page", "--data-dir", folder]
        began = time.monotonic()
        process = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"}
        )
        timer = threading.Timer(START_TIMEOUT_S, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            address = next(
                (m.group() for line in process.stdout if (m := re.search(r"http://127\.0\.0\.1:\d+", line))),
                None,
            )
            timer.cancel()
            if address is None:
                raise SystemExit("the host ended before it was ready")
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield address, time.monotonic() - began
        finally:
            timer.cancel()
            process.terminate()
            process.wait(timeout=10)


def ask(endpoint: Endpoint, question: str) -> Measured:
    """Ask one question in a session of its own."""
    began = time.monotonic()
    first: float | None = None
    for event in endpoint.stream({"inputs": question}):
        if first is None and event["token"]["text"]:
            first = time.monotonic() - began
        if "generated_text" in event:
            details = event["details"]
            total = time.monotonic() - began
            tokens = details["usage"]["completion_tokens"]
            return Measured(first or total, total, tokens, details["timings"])
    raise RuntimeError("the stream ended without a reply")


def measure(url: str, questions: Sequence[str], clients: int) -> tuple[list[Measured], float]:
    """Ask the questions from so many clients at once; returns the turns and the wall time."""
    waiting = iter(questions)
    lock = threading.Lock()
    turns: list[Measured] = []
    failures: list[Exception] = []

    def client() -> None:
        endpoint = Endpoint.local(url)
        while True:
            with lock:
                question = next(waiting, None)
            if question is None:
                return
            try:
                turn = ask(endpoint, question)
            except Exception as error:  # noqa: BLE001 - raised again below, in the main thread
                failures.append(error)
                return
            with lock:
                turns.append(turn)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return turns, time.monotonic() - began


def quantile(values: Sequence[float], q: float) -> float:
    """Return a quantile by linear interpolation."""
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def summary(turns: Sequence[Measured], wall: float, clients: int) -> dict[str, float]:
    """Return the figures of one run; times in milliseconds."""

    def server(step: str) -> float:
        return 1000 * statistics.median(turn.server[step] or 0.0 for turn in turns)

    return {
        "clients": clients,
        "turns": len(turns),
        "turns_per_s": len(turns) / wall,
        "tokens_per_s": sum(turn.tokens for turn in turns) / wall,
        "first_text_p50_ms": 1000 * quantile([turn.first_text for turn in turns], 0.5),
        "first_text_p95_ms": 1000 * quantile([turn.first_text for turn in turns], 0.95),
        "turn_p50_ms": 1000 * quantile([turn.total for turn in turns], 0.5),
        "server_input_moderation_p50_ms": server("input_moderation"),
        "server_retrieval_p50_ms": server("retrieval"),
        "server_first_token_p50_ms": server("first_token"),
        "server_first_text_p50_ms": server("first_text"),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=40, help="turns of each run")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--model", help="as of `ock serve`")
    options = parser.parse_args()
    lines = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    facts = [line["question"] for line in lines if line["kind"] == "fact"]
    questions = (facts * (options.turns // len(facts) + 1))[: options.turns]
    arguments = ["--model", options.model] if options.model else []
    with running_host(arguments) as (url, ready_s):
        measure(url, facts[-3:], 1)  # warm-up: first calls compile kernels and fill caches
        runs = [summary(*measure(url, questions, clients), clients) for clients in options.clients]
    table = Table(title=f"the local turn, ready after {ready_s:.1f} s, {os.cpu_count()} cores")
    table.add_column("figure")
    for run in runs:
        table.add_column(f"{run['clients']} client(s)", justify="right")
    for figure in list(runs[0])[1:]:
        table.add_row(figure, *(f"{run[figure]:,.1f}" for run in runs))
    Console(width=100).print(table)
    rounded = [{name: round(value, 2) for name, value in run.items()} for run in runs]
    print(json.dumps({"bench": "local_turn", "ready_s": round(ready_s, 2), "runs": rounded}))


if __name__ == "__main__":
    main()
