"""Sources to an index directory: read, drop what stands there twice, embed, pack, put in place.

    report = build_index(["reports/"], Path("index"), tools=Tools(load_encoder))

A build works in `DIR/.build`, where every finished step is a file: killed at any point, the same call
goes on from there. An index that is in the directory already, and indexes among the sources, give their
documents and vectors, so that only what is new is read and embedded. The same sources give the same
index, byte for byte, by one process or by many.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np

from openchatkit.ports import Embedding
from openchatkit.retrieval.document_table import DocumentTable, Found, Origin, TableWriter
from openchatkit.retrieval.documents import Skipped
from openchatkit.retrieval.indexing.duplicates import WIDTH, dropped_sentences, find_duplicates, passages
from openchatkit.retrieval.indexing.listing import Item
from openchatkit.retrieval.indexing.plan import Options, Plan
from openchatkit.retrieval.indexing.reading import document_of
from openchatkit.retrieval.indexing.steps import BLOCK_ROWS, BlockTask, Held, PartTask, embed_block, read_part
from openchatkit.retrieval.indexing.workers import EncoderSpec, Tools, Workers
from openchatkit.retrieval.lexical import LexicalIndex
from openchatkit.retrieval.manifest import (
    FORMAT,
    Counts,
    EncoderEntry,
    Manifest,
    publish,
    write_atomically,
)
from openchatkit.retrieval.vectors import FLOAT_ROWS, Blocks, build_vectors

WORK = ".build"
LOCK = ".build.lock"
PART_ITEMS = 64
PART_BYTES = 8 * 2**20
HELD_OUT_QUERIES = 200
"""Parts of sentences, by which the index is tuned and measured."""
LEXICAL_BATCH = 1000

Progress = Callable[[str, int, int], None]
"""Called with a step (`reading`, `embedding`, `packing`), what is done of it, and the whole of it."""


class BuildBusy(RuntimeError):
    """Another process builds in this directory."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a build did."""

    manifest: Manifest
    changed: bool
    """False: the index was there already, for the same files."""
    embedded: int
    """Rows whose vectors were computed; the others were taken over."""
    skipped: tuple[Skipped, ...]


def _silent(step: str, done: int, total: int) -> None:
    """Say nothing."""


def build_index(
    sources: Sequence[str],
    folder: Path,
    *,
    tools: Tools,
    options: Options | None = None,
    processes: int = 1,
    spec: EncoderSpec | None = None,
    progress: Progress = _silent,
) -> Report:
    """Build the index of some sources, or bring it up to date.

    Args:
        sources: files, folders, S3 prefixes, datasets of the hub, indexes of the same encoder.
        folder: where the index goes; made where it is missing.
        tools: load the encoder.
        options: what else decides what the index holds.
        processes: that read and embed; more than one need `spec`.
        spec: the encoder of `tools`, as other processes load it.
        progress: hears of each step.

    Raises:
        FileNotFoundError: a path that does not exist.
        remote.SourceUnusable: an address that cannot be listed.
        BuildBusy: another process builds there.
        IndexUnusable: an index among the sources is damaged or of another encoder.
        WorkerLost: a process was killed; the same call goes on from what is done.
        OSError: the folder cannot be written. The index that it held is as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise BuildBusy(f"another process builds the index in {folder}") from error
    try:
        with Workers(tools, processes=processes, spec=spec) as workers:
            plan = Plan(sources, folder, options or Options(), tools.encoder.identity)
            return _Build(plan, workers, progress).run()
    finally:
        lock.release()


@dataclass
class _Build:
    plan: Plan
    workers: Workers
    progress: Progress

    def run(self) -> Report:
        unchanged = self.plan.unchanged()
        if unchanged is not None:
            shutil.rmtree(self.plan.folder / WORK, ignore_errors=True)
            return Report(unchanged.manifest, False, 0, tuple(unchanged.table.skipped()))
        work = self._work_folder()
        table_path = self._table(work)
        table = DocumentTable(table_path)
        try:
            embedded, blocks = self._embed(work, table, table_path)
            self.progress("packing", 0, 2)
            if not (work / "lexical").is_dir():
                LexicalIndex.build(work / "lexical.tmp", _batches(table))
                (work / "lexical.tmp").rename(work / "lexical")
            self.progress("packing", 1, 2)
            previous = self.plan.earlier[0].vector_index.store if self.plan.earlier else None
            files, entry = build_vectors(blocks, self._held_out(table), work, earlier=previous)
            skipped = tuple(table.skipped())
            manifest = Manifest(
                name=self.plan.options.name,
                encoder=EncoderEntry(
                    identity=self.plan.identity, dimension=blocks.dimension, model=self.plan.options.model
                ),
                counts=Counts(
                    documents=table.documents,
                    sentences=table.sentences,
                    rows=table.rows,
                    duplicates=table.sentences - table.rows,
                    skipped=len(skipped),
                ),
                vectors=entry,
                parameters=self.plan.options.parameters,
                files={},
            )
        finally:
            table.close()
        built = {"documents": table_path, "lexical": work / "lexical", **files}
        manifest = publish(self.plan.folder, built, manifest)
        shutil.rmtree(work)
        self.progress("packing", 2, 2)
        return Report(manifest, True, embedded, skipped)

    def _work_folder(self) -> Path:
        """Return the folder of this build's steps: what is in there already if it is of the same build."""
        work = self.plan.folder / WORK
        described = [
            FORMAT,
            self.plan.identity,
            sorted(self.plan.options.parameters.items()),
            [(item.name, item.fingerprint) for item in self.plan.items],
            [(problem.path, problem.reason) for problem in self.plan.problems],
            [index.manifest.model_dump_json() for index in self.plan.earlier],
        ]
        key = hashlib.sha256(json.dumps(described).encode()).hexdigest()
        marker = work / "build"
        if not marker.is_file() or marker.read_text() != key:
            shutil.rmtree(work, ignore_errors=True)
            (work / "parts").mkdir(parents=True)
            (work / "blocks").mkdir()
            write_atomically(marker, key.encode())
        return work

    # --- documents ---------------------------------------------------------------------------

    def _table(self, work: Path) -> Path:
        """Return the table of all documents, made where it is missing."""
        path = work / "documents.sqlite"
        if path.is_file():
            return path
        parts = self._parts(work)
        done = 0
        self.progress("reading", 0, len(self.plan.items))
        for count in self.workers.run(read_part, parts):
            done += count
            self.progress("reading", done, len(self.plan.items))
        duplicates = _duplicates(parts, work) if self.plan.options.drop_duplicates else None
        writer = TableWriter(path.with_suffix(".tmp"))
        for part in parts:
            self._enter(writer, part, duplicates)
        for problem in self.plan.problems:
            writer.add_origin(Origin(problem.path, None, problem.reason))
        writer.close()
        path.with_suffix(".tmp").replace(path)
        return path

    def _parts(self, work: Path) -> list[PartTask]:
        """Deal the items out: always the same way, so that finished parts can be kept."""
        dealt: list[list[tuple[int, Item, Held | None]]] = []
        size = 0
        for number, item in enumerate(self.plan.items):
            if not dealt or len(dealt[-1]) >= PART_ITEMS or size + item.size > PART_BYTES:
                dealt.append([])
                size = 0
            size += item.size
            dealt[-1].append((number, item, self.plan.held(item)))
        return [
            PartTask(work / "parts" / f"{number:06}", tuple(part), self.plan.options.drop_duplicates)
            for number, part in enumerate(dealt)
        ]

    def _enter(self, writer: TableWriter, part: PartTask, duplicates: Iterator[np.bool_] | None) -> None:
        """Put a part's items and documents into the table."""
        items = {number: item for number, item, _ in part.items}
        endings: dict[int, Origin] = {}
        lines = part.target.with_suffix(".jsonl")
        with lines.open(encoding="utf-8") as file:
            for line in file:
                answer = json.loads(line)
                if "document" not in answer:
                    ending = answer["fingerprint"], answer["problem"], answer["note"]
                    endings[answer["origin"]] = Origin(items[answer["origin"]].name, *ending)
        for number in items:
            writer.add_origin(endings[number])
        with lines.open(encoding="utf-8") as file:
            for line in file:
                answer = json.loads(line)
                if "document" in answer:
                    document = document_of(answer["document"])
                    dropped: list[int] = []
                    if duplicates is not None:
                        flags = [bool(next(duplicates)) for _ in passages(document)]
                        dropped = dropped_sentences(document, flags)
                    writer.add(answer["origin"], document, dropped)

    # --- vectors -----------------------------------------------------------------------------

    def _embed(self, work: Path, table: DocumentTable, path: Path) -> tuple[int, Blocks]:
        """Return how many rows had no vector, and the vectors of all."""
        earlier = tuple(index.folder for index in self.plan.earlier)
        total = table.rows - self._known(table)
        done = 0

        def on_slice(count: int) -> None:
            nonlocal done
            done += count
            self.progress("embedding", done, total)

        alone = self.workers.in_process
        starts = range(0, table.rows, BLOCK_ROWS)
        tasks = [
            BlockTask(
                work / "blocks" / f"{number:06}.npy",
                path,
                start,
                min(table.rows, start + BLOCK_ROWS),
                earlier,
                on_slice if alone else None,
            )
            for number, start in enumerate(starts)
        ]
        if not earlier:  # what a build before this one has embedded
            done = sum(task.stop - task.start for task in tasks if task.target.is_file())
        self.progress("embedding", done, total)
        missing = [task for task in tasks if not task.target.is_file()]
        for count in self.workers.run(embed_block, missing):
            if not alone and not earlier:
                on_slice(count)
        dimension = self.workers.tools.encoder.dimension
        return total, Blocks.of_files([task.target for task in tasks], table.rows, dimension, BLOCK_ROWS)

    def _known(self, table: DocumentTable) -> int:
        """Return how many rows have their vector in an earlier index."""
        if not self.plan.earlier:
            return 0
        known = 0
        for start in range(0, table.rows, BLOCK_ROWS):
            keys = [key for key, _ in table.texts(start, start + BLOCK_ROWS)]
            found: set[int] = set()
            for index in self.plan.earlier:
                found |= index.table.rows_by_key(keys).keys()
            known += sum(key in found for key in keys)
        return known

    def _held_out(self, table: DocumentTable) -> Embedding:
        """Return vectors of questions to tune by: the middle of some sentences, without their titles.

        None of them where vectors are to stay as they are.
        """
        tuned = table.rows > FLOAT_ROWS and not self.plan.options.keep_float
        count = min(HELD_OUT_QUERIES, table.rows) if tuned else 0
        rows = [number * table.rows // count for number in range(count)]
        texts = []
        for found in table.found(rows):
            words = found.sentence.text.split()
            quarter = len(words) // 4
            texts.append(" ".join(words[quarter : max(quarter + 3, len(words) - quarter)]))
        return self.workers.tools.encoder.encode(texts)


def _duplicates(parts: Sequence[PartTask], work: Path) -> Iterator[np.bool_]:
    """Yield for each passage of the parts, in their order, whether an earlier one says the same."""
    sizes = [len(np.load(part.target.with_suffix(".npy"), mmap_mode="r")) for part in parts]
    if not sum(sizes):
        return iter(())
    path = work / "signatures"
    rows = np.memmap(path, dtype=np.uint32, mode="w+", shape=(sum(sizes), WIDTH))
    start = 0
    for part, size in zip(parts, sizes, strict=True):
        rows[start : start + size] = np.load(part.target.with_suffix(".npy"))
        start += size
    found = find_duplicates(rows)
    del rows
    os.unlink(path)  # noqa: PTH108 - a memory map's file
    return iter(found)


def _batches(table: DocumentTable) -> Iterator[list[Found]]:
    for start in range(0, table.rows, LEXICAL_BATCH):
        yield table.lexical_rows(start, start + LEXICAL_BATCH)
