"""Questions with the passages that answer them and those that only look as if they did.

`data/*.jsonl` has one bundle a line: documents on things that are easily mixed up, and questions on
them, a third of which nothing in the bundle answers. None of the hands that wrote them had seen the sample
library, a test set or this code. The last bundle (`HELD_OUT`) of every file is never trained on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openchatkit.retrieval.documents import Sentence, leans
from openchatkit.retrieval.passages import Window, widen

DATA = Path(__file__).with_name("data")
HELD_OUT = 1
ALONE = Window(0, 1.0)
"""A hit with nothing but what it leans on: `documents_window` 0, the demonstration model's."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence as a search brings it: behind those that it leans on."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A question on a bundle."""

    question: str
    before: str | None
    """The question before it in the conversation, for a follow-up."""
    answers: frozenset[int]
    """Places of the candidates that answer; empty where none does."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Documents in pieces, and the questions on them."""

    origin: str
    candidates: tuple[Candidate, ...]
    questions: tuple[Asked, ...]


def spans(sentences: Sequence[str]) -> list[tuple[int, int]]:
    """Return for each sentence of a document the first and the last of its passage."""
    document = [
        Sentence(text, None, number > 0 and leans(text), None) for number, text in enumerate(sentences)
    ]
    return [widen(number, document, lambda _: 0.0, ALONE) for number in range(len(document))]


def alone(sentences: Sequence[str]) -> list[str]:
    """Return each sentence of a document as a search brings it."""
    return [" ".join(sentences[first : last + 1]) for first, last in spans(sentences)]


def bundles(*, held_out: bool) -> Iterator[Bundle]:
    """Return the bundles to train on, or those to measure on."""
    for path in sorted(DATA.glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines()
        for line in lines[-HELD_OUT:] if held_out else lines[:-HELD_OUT]:
            yield _bundle(json.loads(line), path.stem)


def _bundle(written: dict[str, Any], origin: str) -> Bundle:
    candidates: list[Candidate] = []
    holding: dict[tuple[int, int], set[int]] = {}
    for number, document in enumerate(written["documents"]):
        sentences = document["sentences"]
        for first, last in spans(sentences):
            for at in range(first, last + 1):
                holding.setdefault((number, at), set()).add(len(candidates))
            candidates.append(Candidate(document["title"], " ".join(sentences[first : last + 1])))
    questions = []
    for asked in written["questions"]:
        answers = frozenset(place for a, b in asked["gold"] for place in holding[a, b])
        questions.append(Asked(asked["q"], asked.get("before"), answers))
    return Bundle(origin, tuple(candidates), tuple(questions))
