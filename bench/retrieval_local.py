"""Retrieval over the sample library: is the right passage found, and how long does it take.

    .venv/bin/python -m bench.retrieval_local

A passage is right where it stands in one of the question's documents and holds one of its answers.
Prints a table, then one last line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openchatkit.ports import Passage, Query
from openchatkit.retrieval.document_source import DocumentSource
from openchatkit.retrieval.encoder import SentenceEncoder, bundled_minilm_directory
from openchatkit.retrieval.system import RetrievalSystem

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "local" / "library"
QUESTIONS = ROOT / "tests" / "library" / "questions.jsonl"
K = 3
MIN_SCORE = 0.3

Question = dict[str, Any]


def load_questions() -> list[Question]:
    """Return the sample library's questions."""
    return [json.loads(line) for line in QUESTIONS.read_text("utf-8").splitlines() if line.strip()]


def is_right(question: Question, passage: Passage) -> bool:
    """Return whether a passage answers a question."""
    path = passage.id.rpartition("#")[0]
    return path in question["documents"] and any(answer in passage.text for answer in question["answer"])


def earlier_questions(question: Question) -> list[str]:
    """Return the questions of the conversation before, oldest first."""
    return [turn["question"] for turn in question.get("history", [])]


async def ranks(
    system: RetrievalSystem, encoder: SentenceEncoder, questions: Sequence[Question]
) -> tuple[dict[str, int | None], list[Passage]]:
    """Return the rank of the right passage of each question, from 1, and all passages."""
    found: dict[str, int | None] = {}
    seen: list[Passage] = []
    asked = [system.queries(question["question"], earlier_questions(question)) for question in questions]
    # All at once: a batch sorted by length takes a third of the time of single questions.
    vectors = iter(encoder.encode([text for texts in asked for text in texts]))
    for question, texts in zip(questions, asked, strict=True):
        passages = (await system.retrieve([Query(text, next(vectors)) for text in texts], K)).passages
        seen += passages
        hits = [rank for rank, passage in enumerate(passages, start=1) if is_right(question, passage)]
        found[question["id"]] = hits[0] if hits else None
    return found, seen


def recall(found: dict[str, int | None], k: int) -> float:
    """Return the share of questions with the right passage among the first `k`."""
    return statistics.mean(rank is not None and rank <= k for rank in found.values())


async def main() -> None:
    """Measure and print."""
    begin = time.perf_counter()
    encoder = SentenceEncoder.load(bundled_minilm_directory())
    loaded = time.perf_counter()
    source = DocumentSource.build([LIBRARY], encoder=encoder)
    built = time.perf_counter()
    system = RetrievalSystem([source], timeout_s=5, min_score=MIN_SCORE)
    questions = load_questions()
    report: dict[str, Any] = {
        "documents": source.documents,
        "sentences": source.sentences,
        "encoder_load_s": round(loaded - begin, 2),
        "index_build_s": round(built - loaded, 2),
    }
    for kind in ("fact", "follow_up"):
        asked = [question for question in questions if question["kind"] == kind]
        found, seen = await ranks(system, encoder, asked)
        missed = [key for key, rank in found.items() if rank is None]
        report[kind] = {"questions": len(asked)} | {
            f"recall@{k}": round(recall(found, k), 3) for k in (1, 2, 3)
        }
        report[kind]["passage_characters"] = round(statistics.mean(len(passage.text) for passage in seen))
        print(f"{kind:12}", *(f"{key} {value}" for key, value in report[kind].items()), "missed:", *missed)
    for kind in ("unanswerable", "smalltalk"):
        asked = [{"documents": []} | question for question in questions if question["kind"] == kind]
        _, seen = await ranks(system, encoder, asked)
        report[kind] = {"questions": len(asked), "passages": round(len(seen) / len(asked), 2)}
        print(f"{kind:12}", *(f"{key} {value}" for key, value in report[kind].items()))
    encoding, searching = [], []
    for question in [question for question in questions if question["kind"] == "fact"]:
        start = time.perf_counter()
        vector = encoder.encode([question["question"]])[0]
        middle = time.perf_counter()
        await system.retrieve([Query(question["question"], vector)], K)
        encoding.append((middle - start) * 1e3)
        searching.append((time.perf_counter() - middle) * 1e3)
    report["encode_ms_p50"] = round(statistics.median(encoding), 2)
    report["search_ms_p50"] = round(statistics.median(searching), 2)
    for key in ("encoder_load_s", "index_build_s", "encode_ms_p50", "search_ms_p50"):
        print(f"{key:16} {report[key]}")
    print(json.dumps(report))


if __name__ == "__main__":
    asyncio.run(main())
