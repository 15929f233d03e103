"""Search in an index like Wikipedia's, against the published algorithm as OpenChatKit runs it.

    .venv/bin/python -m bench.retrieval_wikipedia --published DIR [--rows 200000] [--work .dev/wikipedia]

DIR is a checkout of OpenChatKit: its `retrieval/wikipedia.py` is run as it stands there, on the CPU and
with the encoder of this bench instead of contriever; it wants pandas, which this project does not. The
corpus is the prose of AWS's interfaces that botocore carries, an article a description; the questions
are the middles of its sentences. Both search one flat index with k=1, w=5, w_th=0.5, each in a process of
its own, in turns. Embedding the corpus takes a quarter of an hour on two cores; the work folder keeps it.

Prints a table, then one last line of JSON.
"""

from __future__ import annotations

import argparse
import gzip
import html
import importlib.util
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import botocore
import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from bench.report import print_report
from openchatkit.ports import Embedding
from openchatkit.retrieval.encoder import SentenceEncoder, bundled_minilm_directory
from openchatkit.retrieval.faiss_files import map_index
from openchatkit.retrieval.manifest import VectorEntry
from openchatkit.retrieval.sentence_table import convert
from openchatkit.retrieval.splitter import split_sentences
from openchatkit.retrieval.vectors import LISTS_FILE, Lists, Rows, list_vectors
from openchatkit.retrieval.wikipedia import WikipediaIndex
from openchatkit.retrieval.wikipedia_prepare import INDEX_FILE, SENTENCES_FILE, TABLE_FILE, PreparedWikipedia

QUESTIONS = 300
WARM_UP = 5
ENCODED_BEFORE = 100
"""Questions that are embedded before memory is looked at: what many lengths of text cost is the encoder's."""
ROUNDS = 2
BLOCK = 4096
WORDS = range(5, 41)
"""Of a sentence that is taken: shorter ones are headings, longer ones lists."""
ENTRY = "lists.json"


def articles() -> Iterator[tuple[str, list[str]]]:
    """Yield titles and sentences, no sentence twice."""
    seen: set[str] = set()
    for path in sorted((Path(botocore.__file__).parent / "data").rglob("service-2.json*")):
        raw = path.read_bytes()
        service = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
        title = service["metadata"].get("serviceId", path.parent.parent.name)
        for name, text in _described(service, title):
            plain = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())
            split = dict.fromkeys(split_sentences(plain))
            sentences = [one for one in split if len(one.split()) in WORDS and one not in seen]
            seen.update(sentences)
            if sentences:
                yield f"{title} {name}", sentences


def _described(node: object, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "documentation" and isinstance(value, str):
                yield name, value
            else:
                yield from _described(value, name if key in ("shape", "members") else key)
    elif isinstance(node, list):
        for value in node:
            yield from _described(value, name)


def prepare(rows: int, work: Path) -> None:
    """Write the corpus as a prepared index; what is there already is kept."""
    (work / "blocks").mkdir(parents=True, exist_ok=True)
    if not (work / TABLE_FILE).exists():
        pairs = [(title, one) for title, said in articles() for one in said][:rows]
        table = pa.table({"title": [title for title, _ in pairs], "text_snippet": [one for _, one in pairs]})
        pq.write_table(table, work / SENTENCES_FILE)
        convert(work / SENTENCES_FILE, work / TABLE_FILE)
    texts = sentences(work)
    encoder = SentenceEncoder.load(bundled_minilm_directory())
    index = faiss.IndexFlatIP(encoder.dimension)
    for start in range(0, len(texts), BLOCK):
        block = work / "blocks" / f"{start:08}.npy"
        if not block.exists():
            np.save(block, encoder.encode(texts[start : start + BLOCK]))
            print(f"embedded {start + BLOCK:,} of {len(texts):,}", file=sys.stderr, flush=True)
        index.add(np.load(block))
    if not (work / INDEX_FILE).exists():
        faiss.write_index(index, str(work / INDEX_FILE))
    if not (work / ENTRY).exists():
        start_s = time.perf_counter()
        lists = list_vectors(map_index(work / INDEX_FILE), work)
        print(f"lists in {time.perf_counter() - start_s:.0f} s", file=sys.stderr, flush=True)
        (work / ENTRY).write_text(lists.entry.model_dump_json() if lists else "null")


def sentences(work: Path) -> list[str]:
    """Return the corpus, a sentence for each vector."""
    column: list[str] = pq.read_table(work / SENTENCES_FILE)["text_snippet"].to_pylist()  # type: ignore[assignment]
    return column


def questions(work: Path) -> list[str]:
    """Return the middles of sentences from all over the corpus."""
    texts = sentences(work)
    chosen = np.random.default_rng(11).choice(len(texts), QUESTIONS + WARM_UP, replace=False)
    found = []
    for row in chosen:
        words = texts[row].split()
        quarter = len(words) // 4
        found.append(" ".join(words[quarter : max(quarter + 4, len(words) - quarter)]))
    return found


def memory_mb() -> float:
    """Return the resident memory of this process, mapped files included."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def ours(work: Path) -> dict[str, Any]:
    """Measure `WikipediaIndex`."""
    encoder = SentenceEncoder.load(bundled_minilm_directory())
    asked = questions(work)
    for query in asked[:ENCODED_BEFORE]:
        encoder.pool([query])
    before = memory_mb()
    entry = json.loads((work / ENTRY).read_text())
    lists = Lists(work / LISTS_FILE, VectorEntry.model_validate(entry)) if entry else None
    index = WikipediaIndex.load(PreparedWikipedia(work / INDEX_FILE, work / TABLE_FILE, lists), encoder)
    figures = _timed(asked, lambda query: [passage.text for passage in index.search(query)], before)
    asked = asked[WARM_UP:]
    figures["rows"] = [index.nearest(encoder.pool([query])[0], 1)[0] for query in asked]
    encoding = [_seconds(lambda query=query: encoder.pool([query])) for query in asked]  # type: ignore[misc]
    return figures | {"encoding_ms_p50": statistics.median(encoding) * 1e3}


def published(work: Path, checkout: Path) -> dict[str, Any]:
    """Measure the published class, with this bench's encoder and files under it."""
    import pandas as pd  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from transformers import AutoModel, AutoTokenizer

    spec = importlib.util.spec_from_file_location("published", checkout / "retrieval" / "wikipedia.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = str(bundled_minilm_directory())
    index = object.__new__(module.WikipediaIndex)  # its __init__ wants a GPU and its own paths
    index._device = "cpu"
    index._tokenizer = AutoTokenizer.from_pretrained(folder)
    index._contriever = AutoModel.from_pretrained(folder)
    asked = questions(work)
    with torch.inference_mode():
        for query in asked[:ENCODED_BEFORE]:
            index._contriever(**index._tokenizer(query, return_tensors="pt"))
    before = memory_mb()
    index._df_sentences = pd.read_parquet(work / SENTENCES_FILE)
    flags = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY
    index._wiki_index = _Recorded(faiss.read_index(str(work / INDEX_FILE), flags))
    figures = _timed(asked, lambda query: index.search(query, k=1, w=5, w_th=0.5), before)
    return figures | {"rows": index._wiki_index.hits[WARM_UP:]}


class _Recorded:
    """An index that remembers what it found."""

    def __init__(self, index: faiss.Index) -> None:
        self.index = index
        self.hits: list[int] = []

    def search(self, vector: Embedding, k: int) -> tuple[Embedding, Rows]:
        scores, rows = self.index.search(vector, k)
        self.hits.append(int(rows[0][0]))
        return scores, rows


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _timed(asked: Sequence[str], search: Callable[[str], list[str]], before_mb: float) -> dict[str, Any]:
    times, texts = [], []
    for query in asked:
        start = time.perf_counter()
        texts.append(search(query)[0])
        times.append(time.perf_counter() - start)
    counted = sorted(times[WARM_UP:])
    return {
        "ms_p50": statistics.median(counted) * 1e3,
        "ms_p95": counted[int(len(counted) * 0.95)] * 1e3,
        "memory_above_encoder_mb": memory_mb() - before_mb,
        "texts": texts[WARM_UP:],
    }


def _child(side: str, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.retrieval_wikipedia", "--work", str(arguments.work)]
    command += ["--published", str(arguments.published), "--side", side]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run both sides in turns; the last round counts, the first has brought the files into memory."""
    rounds = [{side: _child(side, arguments) for side in ("published", "ours")} for _ in range(ROUNDS)]
    theirs, mine = rounds[-1]["published"], rounds[-1]["ours"]
    same = [one == other for one, other in zip(mine["rows"], theirs["rows"], strict=True)]
    whole = [
        _letters(one) == _letters(other) for one, other in zip(mine["texts"], theirs["texts"], strict=True)
    ]
    figures = {"rows": len(pq.read_table(arguments.work / SENTENCES_FILE)), "questions": QUESTIONS}
    for side, found in (("published", theirs), ("ours", mine)):
        figures |= {f"{side}_{key}": value for key, value in found.items() if key not in ("rows", "texts")}
    return figures | {
        "times_faster_p50": theirs["ms_p50"] / mine["ms_p50"],
        "memory_share": mine["memory_above_encoder_mb"] / theirs["memory_above_encoder_mb"],
        "same_sentence": float(np.mean(same)),
        "same_passage": float(np.mean(whole)),
    }


def _letters(text: str) -> str:
    """The published passages have no blanks between sentences."""
    return "".join(text.split())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--published", type=Path, required=True, help="a checkout of OpenChatKit")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--work", type=Path, default=Path(".dev/wikipedia"))
    parser.add_argument("--side", choices=("ours", "published"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        side = (
            ours(arguments.work)
            if arguments.side == "ours"
            else published(arguments.work, arguments.published)
        )
        print(json.dumps(side))
        return
    prepare(arguments.rows, arguments.work)
    report = compare(arguments)
    print_report(report, 3)


if __name__ == "__main__":
    main()
