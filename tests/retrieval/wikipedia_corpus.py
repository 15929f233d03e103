"""A small Wikipedia: the sample library's documents as articles, in the form of the prepared dataset."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import faiss
import pyarrow as pa
import pyarrow.parquet as pq

from openchatkit.retrieval.encoder import SentenceEncoder
from openchatkit.retrieval.wikipedia_prepare import INDEX_FILE, SENTENCES_FILE

LIBRARY = Path(__file__).resolve().parents[2] / "local" / "library"
MOST_SENTENCES = 200
DATASET = "example/wikipedia-index"


@dataclass(frozen=True)
class Corpus:
    texts: list[str]
    titles: list[str]
    vectors: faiss.IndexFlatIP

    def files(self) -> dict[str, bytes]:
        """The dataset's files."""
        return {INDEX_FILE: index_bytes(self.vectors), SENTENCES_FILE: parquet(self.texts, self.titles)}


def make_corpus(encoder: SentenceEncoder) -> Corpus:
    texts, titles = list[str](), list[str]()
    for path in sorted(LIBRARY.rglob("*.md")):
        for line in path.read_text("utf-8").splitlines():
            if line[:1].isalpha() and line.endswith("."):
                new = [text for text in re.split(r"(?<=[.?!]) (?=[A-Z])", line) if text not in texts]
                texts.extend(new)
                titles.extend([path.stem] * len(new))
    texts, titles = texts[:MOST_SENTENCES], titles[:MOST_SENTENCES]
    vectors = faiss.IndexFlatIP(encoder.dimension)
    vectors.add(encoder.encode(texts))
    return Corpus(texts, titles, vectors)


def index_bytes(index: faiss.Index) -> bytes:
    return faiss.serialize_index(index).tobytes()


def parquet(texts: list[str], titles: list[str] | None = None, *, rows_a_group: int = 64) -> bytes:
    columns = {"id": list(range(len(texts))), "text_snippet": texts}
    if titles is not None:
        columns["title"] = titles
    blob = io.BytesIO()
    pq.write_table(pa.table(columns), blob, row_group_size=rows_a_group)
    return blob.getvalue()
