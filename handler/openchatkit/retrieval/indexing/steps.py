"""The steps of a build that several processes share: read a part of the files, embed a block of rows.

Each step writes one file in one go (a part's documents and signatures, a block's vectors), and does
nothing where that file is there already. So a build that was killed goes on from what it had, and the
index does not depend on who did which step.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from openchatkit.ports import Embedding
from openchatkit.retrieval.blocks import UnreadableDocument
from openchatkit.retrieval.document_table import DocumentTable
from openchatkit.retrieval.documents import MAX_SENTENCES, Document
from openchatkit.retrieval.index import LibraryIndex
from openchatkit.retrieval.indexing.duplicates import WIDTH, Signatures, signatures
from openchatkit.retrieval.indexing.listing import Item, on_disk
from openchatkit.retrieval.indexing.reading import json_of
from openchatkit.retrieval.indexing.remote import SourceUnusable
from openchatkit.retrieval.indexing.workers import Tools

BLOCK_ROWS = 4096
"""Rows that are embedded together, sorted by length: what a killed build may lose."""
SLICE = 256
"""Rows between two signs of progress."""


@dataclass(frozen=True, slots=True)
class Held:
    """An item that an earlier index holds."""

    table: Path
    name: str
    """What the item is called there."""
    problem: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class PartTask:
    """Read some items."""

    target: Path
    """Without suffix; `.jsonl` and `.npy` are written."""
    items: tuple[tuple[int, Item, Held | None], ...]
    """Number of each item, the item, and where it is already."""
    signed: bool
    """Whether signatures are wanted."""


@dataclass(frozen=True, slots=True)
class BlockTask:
    """Embed the rows `start <= row < stop` of a table."""

    target: Path
    table: Path
    start: int
    stop: int
    earlier: tuple[Path, ...]
    """Indexes of the same encoder, whose vectors are taken over."""
    on_slice: Callable[[int], None] | None = None
    """Called with the rows embedded since the last call; only in this process."""


def read_part(tools: Tools, task: PartTask) -> int:
    """Write a part's documents and signatures; return how many items it has."""
    lines, marks = task.target.with_suffix(".jsonl"), task.target.with_suffix(".npy")
    if not (lines.is_file() and marks.is_file()):
        signed: list[Signatures] = []
        temporary = lines.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            for number, item, held in task.items:
                for answer in _answers(tools, number, item, held):
                    document = answer.get("document")
                    if isinstance(document, Document):
                        if task.signed:
                            signed.append(signatures(document))
                        answer = {**answer, "document": json_of(document)}
                    file.write(json.dumps(answer) + "\n")
        np.save(marks, np.concatenate(signed) if signed else np.empty((0, WIDTH), dtype=np.uint32))
        temporary.replace(lines)
    return len(task.items)


def _answers(tools: Tools, number: int, item: Item, held: Held | None) -> Iterator[dict[str, object]]:
    """Yield an item's documents, then one line on how it went."""
    problem = held.problem if held is not None else None
    note = held.note if held is not None else None
    transient = False
    try:
        for document in _documents(tools, item, held):
            if len(document.sentences) == MAX_SENTENCES:
                note = f"only its first {MAX_SENTENCES} sentences are indexed"
            yield {"origin": number, "document": document}
    except UnreadableDocument as error:
        problem = str(error)
    except SourceUnusable as error:
        problem, transient = str(error), True
    except OSError as error:
        problem, transient = f"cannot be read ({type(error).__name__})", True
    # What failed on its way here is tried again by the next build.
    fingerprint = None if transient else item.fingerprint
    yield {"origin": number, "fingerprint": fingerprint, "problem": problem, "note": note}


def _documents(tools: Tools, item: Item, held: Held | None) -> Iterator[Document]:
    if held is None:
        with on_disk(item) as path:
            yield from tools.reader.read(path, item.name)
        return
    table = DocumentTable(held.table)
    try:
        for document in table.documents_of(held.name):
            # Among other sources the file may go by another name.
            yield replace(document, path=item.name + document.path[len(held.name) :])
    finally:
        table.close()


def embed_block(tools: Tools, task: BlockTask) -> int:
    """Write a block's vectors, `(stop - start, dimension)` of float32; return the number of its rows."""
    if not task.target.is_file():
        texts = []
        table = DocumentTable(task.table)
        try:
            texts = table.texts(task.start, task.stop)
        finally:
            table.close()
        vectors, missing = _taken_over(texts, task.earlier, lambda: tools.encoder.dimension)
        # Slices of like length waste the least on padding.
        missing.sort(key=lambda number: -len(texts[number][1]))
        for start in range(0, len(missing), SLICE):
            numbers = missing[start : start + SLICE]
            vectors[numbers] = tools.encoder.encode([texts[number][1] for number in numbers])
            if task.on_slice is not None:
                task.on_slice(len(numbers))
        temporary = task.target.with_suffix(".tmp.npy")
        np.save(temporary, vectors)
        temporary.replace(task.target)
    return task.stop - task.start


def _taken_over(
    texts: list[tuple[int, str]], earlier: tuple[Path, ...], dimension: Callable[[], int]
) -> tuple[Embedding, list[int]]:
    """Return the vectors that earlier indexes hold, and the numbers of the texts that none does."""
    missing = list(range(len(texts)))
    vectors: Embedding | None = None
    for folder in earlier:
        index = LibraryIndex.open(folder)
        if vectors is None:
            vectors = np.zeros((len(texts), index.manifest.encoder.dimension), dtype=np.float32)
        rows = index.table.rows_by_key([texts[number][0] for number in missing])
        held = [number for number in missing if texts[number][0] in rows]
        vectors[held] = index.vectors([rows[texts[number][0]] for number in held])
        missing = [number for number in missing if texts[number][0] not in rows]
        index.table.close()
    if vectors is None:
        vectors = np.zeros((len(texts), dimension()), dtype=np.float32)
    return vectors, missing
