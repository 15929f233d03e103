"""What a token costs on the event loop: CPU time of everything of ours between engine and client.

    PYTHONPATH=handler python -m bench.turn_overhead [--streams 64 256] [--tokens 256] [--profile]

An engine that computes nothing gives each stream a token in each pass of the loop; the judge clears
everything at once. What is left is the turn itself: stop words, citations, windows, release, events,
the store's write (SQLite, in a thread of its own, counted too). The text is prose of 5 characters a
token, a sentence every 15 tokens. It says nothing about vLLM's own cost of a token.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import json
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "handler"))

from openchatkit import wire
from openchatkit.chat import ChatModel
from openchatkit.engines.reply import ReplyAssembler
from openchatkit.moderation.labels import LABELS, verdict_from_scores
from openchatkit.moderation.policy import ModerationPolicy
from openchatkit.ports import Chunk, SamplingParameters, Verdict
from openchatkit.service import OpenChatKitService
from openchatkit.settings import Settings
from openchatkit.stores.sqlite import SqliteStore
from openchatkit.turn import TurnRunner

SENTENCE = [" The", " firm", " says", " that", " its", " sales", " rose", " by", " seven", " per", " cent",
            " in", " the", " year", "."]  # fmt: skip
ROUNDS = 3


class InstantEngine:
    """An `Engine` whose tokens are there at once."""

    context_length = 2048

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self.tokenizer = self

    def count(self, text: str) -> int:
        """Return a guess."""
        return len(text) // 4

    def apply_chat_template(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Raise: there is no template."""
        raise ValueError("no template")

    async def generate(
        self, prompt: str, parameters: SamplingParameters, request_id: str
    ) -> AsyncGenerator[Chunk, None]:
        """Yield one token in each pass of the event loop, through what vLLM's text goes through."""
        assembler = ReplyAssembler(parameters.stop)
        for number in range(self._tokens):
            await asyncio.sleep(0)
            last = number == self._tokens - 1
            chunk = assembler.push(SENTENCE[number % len(SENTENCE)], 1, "length" if last else None)
            if chunk is not None:
                yield chunk

    async def score(self, prompt: str, choices: Sequence[str]) -> list[float]:
        """Return equal probabilities."""
        return [1 / len(choices)] * len(choices)

    async def abort(self, request_id: str) -> None:
        """Do nothing: a stream that is closed has stopped."""

    async def close(self) -> None:
        """Hold nothing."""


class InstantJudge:
    """A `Moderator` that finds everything harmless."""

    async def judge(self, human: str, bot: str | None = None) -> Verdict:
        """Return `casual`."""
        return verdict_from_scores({label: float(label == "casual") for label in LABELS})


async def run(streams: int, tokens: int) -> float:
    """Return the microseconds of CPU a token, of all turns together."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            model="none",
            sqlite_path=Path(folder) / "conversations.sqlite",
            max_concurrent_turns=streams,
            max_new_tokens=tokens,
        )
        judge = InstantJudge()
        runner = TurnRunner(
            settings=settings,
            chat=ChatModel(InstantEngine(tokens), settings),
            moderator=judge,
            policy=ModerationPolicy.load(None),
            retriever=None,
            encoder=None,
            guard=None,
        )
        store = SqliteStore(settings.sqlite_path, retention_days=None)
        service = OpenChatKitService(settings=settings, runner=runner, moderator=judge, store=store)

        async def client() -> int:
            request = wire.ChatRequest(inputs="How did sales develop?", stream=True)
            async with contextlib.aclosing(service.stream(request)) as events:
                async for event in events:
                    if isinstance(event, wire.Reply):
                        return event.details.usage.completion_tokens
            return 0

        began = time.process_time()
        made = sum(await asyncio.gather(*(client() for _ in range(streams))))
        spent = time.process_time() - began
        await service.close()
    return spent / made * 1e6


def main() -> None:
    """Print the figures and the line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    asyncio.run(run(4, 32))
    if options.profile:
        profiler = cProfile.Profile()
        profiler.runcall(asyncio.run, run(options.streams[0], options.tokens))
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
    results = {}
    for streams in options.streams:
        cost = statistics.median(asyncio.run(run(streams, options.tokens)) for _ in range(ROUNDS))
        results[str(streams)] = round(cost, 1)
        share = cost * 20 * streams / 1e4
        print(
            f"{streams:4} streams: {cost:6.1f} µs of CPU a token; at 20 tokens/s each {share:.1f} % of a core"
        )
    print(json.dumps({"bench": "turn_overhead", "tokens": options.tokens, "us_a_token": results}))


if __name__ == "__main__":
    main()
