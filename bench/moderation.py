"""What the local moderation costs: a judgement, and the delay it adds to a streamed reply.

    python -m bench.moderation [--texts 100] [--replies 20] [--tokens-per-second 60]

Judgements are timed one after the other in this process, texts that it has not seen before. The delay is
measured on replies from a source of a steady pace, with windows as shipped and without moderation: when
the first text leaves, and how much later than the source ends the last one does. It needs no GPU and
says nothing about the label scorer (`bench/gpu`) nor about whole turns (`bench.local_turn`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from openchatkit.moderation.embedding_classifier import EmbeddingClassifier
from openchatkit.moderation.passages import speaks_to_the_model
from openchatkit.moderation.policy import Decision, ModerationPolicy
from openchatkit.moderation.windows import Mode, moderated
from openchatkit.ports import Chunk
from openchatkit.retrieval.encoder import SentenceEncoder, bundled_minilm_directory

ROOT = Path(__file__).resolve().parents[1]
QUESTIONS = ROOT / "tests" / "library" / "questions.jsonl"
TEXTS = ROOT / "tests" / "moderation" / "unseen.jsonl"
REPLY_SENTENCES = 4


@dataclass(frozen=True)
class Timed:
    """One reply. Seconds since its generation began."""

    first_text: float
    source_end: float
    end: float


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def spread(seconds: list[float]) -> dict[str, float]:
    """Return p50 and p95 in milliseconds."""
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return {"p50_ms": round(1e3 * statistics.median(ordered), 1), "p95_ms": round(1e3 * p95, 1)}


async def timed_reply(judge: EmbeddingClassifier, text: str, mode: Mode, pace: float) -> Timed:
    """Stream a reply at `pace` tokens a second, a word a token."""
    policy, began, source_end = ModerationPolicy.load(), time.monotonic(), 0.0

    async def chunks() -> AsyncGenerator[Chunk]:
        nonlocal source_end
        for number, word in enumerate(text.split(), start=1):
            await asyncio.sleep(max(0.0, began + number / pace - time.monotonic()))
            yield Chunk(f"{word} ", 1)
        source_end = time.monotonic() - began
        yield Chunk("", 0, "stop")

    async def decide(reply: str) -> Decision:
        return policy.decide(await judge.judge("What does the report say?", reply), "output")

    first = 0.0
    async for released in moderated(chunks(), decide, mode=mode):
        if released.text and not first:
            first = time.monotonic() - began
    return Timed(first, source_end, time.monotonic() - began)


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the figures."""
    judge = EmbeddingClassifier.load(SentenceEncoder.load(bundled_minilm_directory()))
    judge.judge_now("Warm up.")
    figures: dict[str, Any] = {"load": round(os.getloadavg()[0], 1)}
    single = []
    for row in read_lines(TEXTS)[: arguments.texts]:
        began = time.monotonic()
        judge.judge_now(row["text"])
        single.append(time.monotonic() - began)
    figures["question"] = spread(single)

    evidence = [row["evidence"] for row in read_lines(QUESTIONS) if row.get("evidence")]
    rules = []
    for text in evidence:
        began = time.monotonic()
        speaks_to_the_model(text)
        rules.append(time.monotonic() - began)
    figures["passage_rules"] = spread(rules)

    size = REPLY_SENTENCES
    replies = [" ".join(evidence[start : start + size]) for start in range(0, len(evidence), size)]
    for mode in ("off", "stream", "final"):
        judge = EmbeddingClassifier.load(SentenceEncoder.load(bundled_minilm_directory()))
        timed = [
            await timed_reply(judge, text, mode, arguments.tokens_per_second)
            for text in replies[: arguments.replies]
        ]
        figures[mode] = {
            "first_text": spread([each.first_text for each in timed]),
            "after_source": spread([each.end - each.source_end for each in timed]),
        }
    return figures


def main() -> None:
    """Measure, print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--replies", type=int, default=20)
    parser.add_argument("--tokens-per-second", type=float, default=60.0)
    figures = asyncio.run(measure(parser.parse_args()))
    table = Table("ms", "p50", "p95", title=f"Local moderation, load {figures['load']}")
    for name in ("question", "passage_rules"):
        table.add_row(name, str(figures[name]["p50_ms"]), str(figures[name]["p95_ms"]))
    for mode in ("off", "stream", "final"):
        for what, each in figures[mode].items():
            table.add_row(f"{mode}: {what}", str(each["p50_ms"]), str(each["p95_ms"]))
    Console().print(table)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
