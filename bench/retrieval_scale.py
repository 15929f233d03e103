"""An index of a million rows: what it costs to build, to hold and to ask.

    .venv/bin/python -m bench.retrieval_scale --rows 1000000 --work .dev/scale

Texts are made up (words by Zipf's law); vectors are those of a mixture of two thousand topics, for a
million real ones would take an hour to compute. All else is the real build: table, signatures, words,
vectors, tuning; then questions to the finished index, one after the other. With `--encoder` it measures
the build's throughput against that of the bare encoder on the same texts instead.

Prints a table, then one last line of JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import print_report
from openchatkit.ports import Embedding, Query
from openchatkit.retrieval.document_source import DocumentSource
from openchatkit.retrieval.encoder import SentenceEncoder, bundled_minilm_directory
from openchatkit.retrieval.index import IndexedEncoder
from openchatkit.retrieval.indexing.builder import build_index
from openchatkit.retrieval.indexing.workers import Tools

DIMENSION = 384
TOPICS = 2000
VOCABULARY = 200_000
WORDS = 22
SENTENCES = 4
QUESTIONS = 200
SHARE = 1 / np.arange(1, VOCABULARY + 1)
CUMULATED = np.cumsum(SHARE / SHARE.sum())


class TopicEncoder:
    """Gives each text the vector of a topic, and some of its own: the work of a model, left out."""

    identity = "topics"
    dimension = DIMENSION

    def __init__(self) -> None:
        self._topics = np.random.default_rng(0).standard_normal((TOPICS, DIMENSION), dtype=np.float32)
        self._spread = np.linspace(1.3, 0.1, DIMENSION, dtype=np.float32)

    def encode(self, texts: Sequence[str]) -> Embedding:
        """Return unit vectors."""
        if not texts:
            return np.empty((0, DIMENSION), dtype=np.float32)
        # A part of a text is near the text: its topic hangs on its longest word, the title's left out, which
        # would be that of all. The rest is the text's own: texts of one vector would be neighbours in no
        # order, and no search could find the same ten.
        topics = [zlib.crc32(_longest_word(text).encode()) % TOPICS for text in texts]
        own = [np.random.default_rng(zlib.crc32(text.encode())) for text in texts]
        vectors = np.stack([random.standard_normal(DIMENSION, np.float32) for random in own])
        vectors = vectors * self._spread + self._topics[topics]
        unit: Embedding = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def _longest_word(text: str) -> str:
    words = [word for word in text.split() if word.startswith("w")]
    return max(words, key=len, default="")


def made_up(rows: int, seed: int = 0) -> Iterator[str]:
    """Yield JSON lines of documents that have so many sentences together."""
    random = np.random.default_rng(seed)
    for number in range(0, rows, SENTENCES):
        words = np.searchsorted(CUMULATED, random.random((SENTENCES, WORDS)))
        lengths = random.integers(8, WORDS + 1, SENTENCES)
        text = " ".join(
            "W" + " ".join(f"w{word}" for word in line[:length]) + "."
            for line, length in zip(words, lengths, strict=True)
        )
        record = {"title": f"Document {number}", "text": text, "company": f"c{number % 997}"}
        yield json.dumps(record | {"date": f"20{10 + number % 16}-01-{1 + number % 28:02}"}) + "\n"


def memory_mb() -> float:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def build_and_ask(rows: int, work: Path) -> dict[str, Any]:
    """Measure an index of so many rows."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with (work / "documents.jsonl").open("w") as file:
        file.writelines(made_up(rows))
    encoder = TopicEncoder()
    marks: dict[str, float] = {}

    def progress(step: str, done: int, total: int) -> None:
        marks.setdefault(f"{step}_{done if step == 'packing' else 'begin'}", time.perf_counter())

    start = time.perf_counter()
    report = build_index(
        [str(work / "documents.jsonl")], work / "index", tools=Tools(lambda: encoder), progress=progress
    )
    end = time.perf_counter()
    files = report.manifest.files
    figures: dict[str, Any] = {
        "rows": report.manifest.counts.rows,
        "read_s": marks["embedding_begin"] - marks["reading_begin"],
        "made_up_vectors_s": marks["packing_0"] - marks["embedding_begin"],
        "words_s": marks["packing_1"] - marks["packing_0"],
        "vectors_s": end - marks["packing_1"],
        "build_s": end - start,
        "peak_memory_mb": memory_mb(),
        "index_mb": sum(file.bytes for file in files.values()) / 1e6,
        **{f"vectors_{key}": value for key, value in report.manifest.vectors.model_dump().items()},
    }
    return {**figures, **ask(work / "index", encoder)}


def ask(folder: Path, encoder: IndexedEncoder) -> dict[str, Any]:
    """Measure questions to an index, their encoding left out."""
    import asyncio

    source = DocumentSource.open(folder, encoder=encoder)
    random = np.random.default_rng(7)
    questions = []
    for _ in range(QUESTIONS):
        words = np.searchsorted(CUMULATED, random.random(8))
        questions.append(" ".join(f"w{word}" for word in words))
    vectors = encoder.encode(questions)

    async def timed() -> list[float]:
        times = []
        for question, vector in zip(questions, vectors, strict=True):
            start = time.perf_counter()
            await source.search(Query(question, vector), 3)
            times.append((time.perf_counter() - start) * 1e3)
        return times

    asyncio.run(timed())  # once for the disk
    times = sorted(asyncio.run(timed()))
    return {"query_ms_p50": statistics.median(times), "query_ms_p95": times[int(len(times) * 0.95)]}


def throughput(rows: int, work: Path) -> dict[str, Any]:
    """Measure the build with the real encoder against the encoder by itself, in turns."""
    encoder = SentenceEncoder.load(bundled_minilm_directory())
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "documents.jsonl").write_text("".join(made_up(rows)))
    ratios, bare_rates, build_rates = [], [], []
    for turn in range(3):
        folder = work / f"index{turn}"
        start = time.perf_counter()
        build_index([str(work / "documents.jsonl")], folder, tools=Tools(lambda: encoder))
        built = rows / (time.perf_counter() - start)
        opened = DocumentSource.open(folder, encoder=encoder)
        table = opened._index.table
        texts = [text for _, text in table.texts(0, table.rows)]
        start = time.perf_counter()
        encoder.encode(texts)
        bare = len(texts) / (time.perf_counter() - start)
        ratios.append(built / bare)
        bare_rates.append(bare)
        build_rates.append(built)
    return {
        "rows": rows,
        "build_per_s": statistics.median(build_rates),
        "bare_per_s": statistics.median(bare_rates),
        "ratio": statistics.median(ratios),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--work", type=Path, default=Path(".dev/scale"))
    parser.add_argument("--encoder", action="store_true")
    arguments = parser.parse_args()
    measure = throughput if arguments.encoder else build_and_ask
    report = measure(arguments.rows, arguments.work)
    print_report(report, 2)


if __name__ == "__main__":
    main()
