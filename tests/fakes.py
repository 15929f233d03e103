"""Stand-ins for what a unit test does not want to run: queued replies, fixed verdicts.

A fake fails loudly on a call that the test did not prepare. Real parts (SQLite, MiniLM, a tiny
transformers model) are used wherever they are quick enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from openchatkit.errors import InvalidRequest
from openchatkit.ports import (
    Chunk,
    Passage,
    Query,
    Retrieval,
    SamplingParameters,
    Verdict,
)

LABELS = (
    "casual",
    "possibly needs caution",
    "probably needs caution",
    "needs caution",
    "needs intervention",
)


def verdict(label: str = "casual") -> Verdict:
    """A verdict that is sure of its label."""
    scores = {name: float(name == label) for name in LABELS}
    return Verdict(label, scores, LABELS.index(label) / (len(LABELS) - 1))


class WordTokenizer:
    """Counts blank-separated words."""

    def count(self, text: str) -> int:
        return len(text.split())

    def apply_chat_template(self, messages: Sequence[Mapping[str, str]]) -> str:
        raise ValueError("no template")


@dataclass
class QueuedEngine:
    """Answers with queued replies, word by word, and notes what it was asked."""

    replies: list[str | Exception] = field(default_factory=list)
    delay_s: float = 0.0
    context_length: int = 2048
    prompts: list[str] = field(default_factory=list)
    parameters: list[SamplingParameters] = field(default_factory=list)
    aborted: set[str] = field(default_factory=set)
    running: set[str] = field(default_factory=set)
    generated: int = 0
    tokenizer: WordTokenizer = field(default_factory=WordTokenizer)

    async def generate(
        self, prompt: str, parameters: SamplingParameters, request_id: str
    ) -> AsyncGenerator[Chunk]:
        assert self.replies, "the engine was asked more often than the test expects"
        reply = self.replies.pop(0)
        self.prompts.append(prompt)
        self.parameters.append(parameters)
        self.running.add(request_id)
        try:
            if isinstance(reply, Exception):
                raise reply
            for word in reply.split(" "):
                await asyncio.sleep(self.delay_s)
                if request_id in self.aborted:
                    yield Chunk("", 0, "cancelled")
                    return
                self.generated += 1
                yield Chunk(" " + word, 1)
            yield Chunk("", 0, "stop")
        finally:
            self.running.discard(request_id)

    async def score(self, prompt: str, choices: Sequence[str]) -> list[float]:
        raise AssertionError("no score expected")

    async def abort(self, request_id: str) -> None:
        self.aborted.add(request_id)

    async def close(self) -> None:
        pass


@dataclass
class RuleModerator:
    """Judges by a function of (human, bot); `error` makes every judgement fail."""

    rule: Callable[[str, str | None], str] = lambda human, bot: "casual"
    error: Exception | None = None
    delay_s: float = 0.0
    judged: list[tuple[str, str | None]] = field(default_factory=list)

    async def judge(self, human: str, bot: str | None = None) -> Verdict:
        await asyncio.sleep(self.delay_s)
        self.judged.append((human, bot))
        if self.error is not None:
            raise self.error
        return verdict(self.rule(human, bot))


@dataclass
class ListRetriever:
    """Returns the same passages for every question and notes the queries."""

    passages: tuple[Passage, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ("documents",)
    asked: list[list[str]] = field(default_factory=list)

    async def retrieve(self, queries: Sequence[Query], k: int, sources: Sequence[str] = ()) -> Retrieval:
        if unknown := set(sources) - set(self.sources):
            raise InvalidRequest(f"unknown sources {unknown}")
        self.asked.append([query.text for query in queries])
        return Retrieval(self.passages[:k], dict(self.failures))

    async def passage(self, source: str, passage_id: str) -> Passage | None:
        return next((one for one in self.passages if (one.source, one.id) == (source, passage_id)), None)

    def queries(self, question: str, earlier: Sequence[str]) -> list[str]:
        return [question, *(f"{one} {question}" for one in earlier[-1:])]


@dataclass
class PhraseGuard:
    """Lets questions through that hold a phrase."""

    phrase: str
    reply: str = "Ask me about finance."

    async def in_domain(self, query: Query) -> bool:
        return self.phrase in query.text


def passage(number: int = 1, text: str = "Revenue was 4.1 billion.") -> Passage:
    """A passage of the source `documents`."""
    return Passage(
        id=f"report.md#{number}",
        source="documents",
        title=f"Report {number}",
        text=text,
        score=0.9 - number / 100,
        date="2026-02-14",
        place="Results",
    )
