"""Measures a reranker as it is served: how often the right passage comes first, and what it lets pass.

    PYTHONPATH=handler:. python -m recipes.reranker.measure [RERANKER ...]

Three sets: the held-out written questions, `natural_dev2` of the demonstration model's recipe, and the sample
library through the handler's own search. Five minutes on two cores, most of them for the first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from local import defaults
from openchatkit.ports import Passage, Query
from openchatkit.retrieval.document_source import DocumentSource
from openchatkit.retrieval.encoder import SentenceEncoder, bundled_minilm_directory
from openchatkit.retrieval.follow_up import follow_up_queries
from openchatkit.retrieval.reranker import CrossEncoder
from openchatkit.retrieval.splitter import split_sentences
from recipes.questions.bundles import ALONE, alone, bundles

ROOT = Path(__file__).resolve().parents[2]
NATURAL = ROOT / "recipes" / "demo_model" / "natural_dev2.jsonl"
LIBRARY_QUESTIONS = ROOT / "tests" / "library" / "questions.jsonl"
NEAREST = 10
"""Passages that the reranker reads; the local default."""
BARS = (0.2, 0.25, 0.3, 0.33, 0.36, 0.4, 0.5)


@dataclass(frozen=True, slots=True)
class Case:
    """A question with what a search brings for it."""

    question: str
    passages: tuple[Passage, ...]
    right: tuple[bool, ...]
    answerable: bool


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def _nearest(encoder: SentenceEncoder, case: Case) -> Case:
    """Return the case with the passages that lie nearest to the question."""
    texts = [f"{passage.title}. {passage.text}" for passage in case.passages]
    near = encoder.encode(texts) @ encoder.encode([case.question])[0]
    order = np.argsort(-near, kind="stable")[:NEAREST].tolist()
    passages, right = (tuple(values[place] for place in order) for values in (case.passages, case.right))
    return replace(case, passages=passages, right=right)


def held_out(encoder: SentenceEncoder) -> Iterator[Case]:
    """Return the written questions that no training sees."""
    for bundle in bundles(held_out=True):
        passages = tuple(Passage("", "", one.title, one.text, 0.0) for one in bundle.candidates)
        for asked in bundle.questions:
            question = follow_up_queries(asked.question, [asked.before] if asked.before else [])[-1]
            right = tuple(place in asked.answers for place in range(len(passages)))
            yield _nearest(encoder, Case(question, passages, right, bool(asked.answers)))


def natural(encoder: SentenceEncoder) -> Iterator[Case]:
    """Return the questions of `natural_dev2`, whose passages are taken apart."""
    for row in _rows(NATURAL):
        if not row["passages"]:
            continue
        earlier = [turn["human"] for turn in row.get("history") or []]
        passages, right = [], []
        for number, passage in enumerate(row["passages"], start=1):
            for text in alone([one.strip() for one in split_sentences(passage["text"])]):
                passages.append(Passage("", "", passage["title"], text, 0.0))
                right.append(number == row["passage"] and row["evidence"] in text)
        question = follow_up_queries(row["question"], earlier)[-1]
        yield _nearest(encoder, Case(question, tuple(passages), tuple(right), bool(row["passage"])))


async def library(encoder: SentenceEncoder) -> list[Case]:
    """Return the sample library's questions with what the handler's search brings."""
    source = await asyncio.to_thread(DocumentSource.build, [defaults.LIBRARY], encoder=encoder, window=ALONE)
    cases = []
    for row in _rows(LIBRARY_QUESTIONS):
        if row["kind"] == "smalltalk":
            continue
        earlier = [turn["question"] for turn in row.get("history", [])]
        question = follow_up_queries(row["question"], earlier)[-1]
        passages = await source.search(Query(question), NEAREST)
        wanted = set(row.get("documents") or ())
        right = [
            bool(wanted)
            and Path(passage.id.split("#")[0]).name in wanted
            and all(answer.casefold() in passage.text.casefold() for answer in row["answer"])
            for passage in passages
        ]
        cases.append(Case(question, tuple(passages), tuple(right), row["kind"] != "unanswerable"))
    return cases


SETS = {"held_out": held_out, "natural_dev2": natural}


async def measure(reranker: CrossEncoder, cases: Sequence[Case]) -> dict[str, Any]:
    """Return shares: right first, AUROC of the best score, and right and declined for each bar."""
    best: list[tuple[float, bool]] = []
    for case in cases:
        scores = await reranker.scores(case.question, case.passages)
        at = max(range(len(scores)), key=scores.__getitem__, default=-1)
        best.append((scores[at], case.right[at]) if at >= 0 else (0.0, False))
    asked = [one for one, case in zip(best, cases, strict=True) if case.answerable]
    foreign = np.array([score for (score, _), case in zip(best, cases, strict=True) if not case.answerable])
    found: dict[str, Any] = {
        "answerable": len(asked),
        "unanswerable": len(foreign),
        "first": round(sum(right for _, right in asked) / len(asked), 4),
        "auroc": round(float(np.mean([(foreign < score).mean() for score, _ in asked])), 4),
    }
    for bar in BARS:
        shown = sum(right and score >= bar for score, right in asked) / len(asked)
        found[f"right, declined from {bar}"] = [round(shown, 4), round(float((foreign < bar).mean()), 4)]
    return found


async def _measure_all(directories: Sequence[str], names: Sequence[str]) -> None:
    encoder = SentenceEncoder.load(bundled_minilm_directory())
    for name in names:
        cases = await library(encoder) if name == "library" else list(SETS[name](encoder))
        for directory in directories:
            found = await measure(CrossEncoder.load(directory), cases)
            print(json.dumps({"reranker": directory, "set": name, **found}), flush=True)


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rerankers", nargs="*", default=[str(defaults.RERANKER)])
    parser.add_argument("--sets", nargs="*", choices=[*SETS, "library"], default=[*SETS, "library"])
    options = parser.parse_args()
    asyncio.run(_measure_all(options.rerankers, options.sets))


if __name__ == "__main__":
    main()
