"""Question to passage over real text: words and vectors together against each alone.

    .venv/bin/python -m bench.retrieval_reading --set .dev/squad/xquad.en.json

The set is a file in SQuAD's format; none comes with the repository. Each paragraph is a document without
a title. A ranking of sentences becomes one of paragraphs, each at the place of its best sentence; right
is the paragraph that the question was asked about. `hybrid` is the ranking of `DocumentSource`, at
several weights of the words beside the one that is used.

Prints a table, then one last line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from openchatkit.ports import Embedding, Filters
from openchatkit.retrieval import document_source
from openchatkit.retrieval.document_source import DocumentSource
from openchatkit.retrieval.encoder import SentenceEncoder, bundled_minilm_directory
from openchatkit.retrieval.index import LibraryIndex
from openchatkit.retrieval.indexing.builder import build_index
from openchatkit.retrieval.indexing.plan import Options
from openchatkit.retrieval.indexing.workers import Tools

ROWS = 50
"""Sentences of a ranking that are looked at; as many as `DocumentSource` takes of each."""
WEIGHTS = (0.1, 0.2, 0.3, 0.5, 0.8)


def load(path: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """Return a set's paragraphs, and its questions with the number of their paragraph."""
    paragraphs: list[str] = []
    questions: list[tuple[str, int]] = []
    for article in json.loads(path.read_text("utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            questions += [(asked["question"], len(paragraphs)) for asked in paragraph["qas"]]
            paragraphs.append(paragraph["context"])
    return paragraphs, questions


def build(paragraphs: Sequence[str], folder: Path, encoder: SentenceEncoder) -> None:
    """Index paragraphs; their numbers are those of their documents."""
    lines = [json.dumps({"text": text, "title": " "}) for text in paragraphs]
    (folder / "set.jsonl").write_text("\n".join(lines))
    options = Options(drop_duplicates=False)
    build_index([str(folder / "set.jsonl")], folder / "index", tools=Tools(lambda: encoder), options=options)


def paragraph_rank(index: LibraryIndex, rows: Iterable[int], right: int) -> int | None:
    """Return the rank of a paragraph, from 1, in a ranking of sentences."""
    order = dict.fromkeys(found.document.id for found in index.table.found(list(rows)))
    return next((rank for rank, number in enumerate(order, start=1) if number == right), None)


def figures(ranks: Sequence[int | None]) -> dict[str, float]:
    """Return recall and mean reciprocal rank."""
    count = len(ranks)
    found = {f"recall@{k}": sum(rank is not None and rank <= k for rank in ranks) / count for k in (1, 5)}
    return {**found, "mrr": sum(1 / rank for rank in ranks if rank is not None) / count}


def rankings(
    source: DocumentSource, index: LibraryIndex, question: str, vector: Embedding
) -> dict[str, list[int]]:
    """Return the sentences that each way puts up, best first."""
    found: dict[str, list[int]] = {
        "dense": index.nearest(vector, ROWS)[1].tolist(),
        "bm25": [row for row, _ in index.words.search(index.words.rarities(question), ROWS)],
    }
    used = document_source.LEXICAL_WEIGHT
    for weight in WEIGHTS:
        document_source.LEXICAL_WEIGHT = weight
        name = "hybrid" if weight == used else f"hybrid {weight}"
        found[name] = [hit.row for hit, _ in source._ranked(question, vector, Filters())]
    document_source.LEXICAL_WEIGHT = used
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", type=Path, required=True, dest="path")
    parser.add_argument("--questions", type=int, default=2000, help="most questions, taken evenly")
    arguments = parser.parse_args()
    encoder = SentenceEncoder.load(bundled_minilm_directory())
    paragraphs, questions = load(arguments.path)
    step = max(1, len(questions) // arguments.questions)
    questions = questions[::step]
    ranks: dict[str, list[int | None]] = {}
    with tempfile.TemporaryDirectory() as folder:
        build(paragraphs, Path(folder), encoder)
        index = LibraryIndex.open(Path(folder) / "index")
        source = DocumentSource(index, encoder)
        vectors = encoder.encode([question for question, _ in questions])
        for (question, right), vector in zip(questions, vectors, strict=True):
            for name, rows in rankings(source, index, question, vector).items():
                ranks.setdefault(name, []).append(paragraph_rank(index, rows, right))
    report: dict[str, Any] = {
        "set": arguments.path.name,
        "paragraphs": len(paragraphs),
        "sentences": len(index),
        "questions": len(questions),
    }
    for name, found in ranks.items():
        report[name] = {key: round(value, 4) for key, value in figures(found).items()}
        print(f"{name:12}", *(f"{key} {value:.4f}" for key, value in report[name].items()))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
