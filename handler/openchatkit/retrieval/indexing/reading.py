"""One file to its documents, whatever the file is: in this process, or in one that may die.

Small files of plain text are read here. Everything else (PDF, HTML of some size, files of records) is
read by a process of its own (`reading_process`) with limits on memory, on time and on how much it gives
back, for the parsers of those formats meet files from anywhere: one that crashes, hangs or unpacks
without end costs its file, never the build. Memory is limited on Linux only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import openchatkit
from openchatkit.retrieval.blocks import UnreadableDocument
from openchatkit.retrieval.documents import Document, Sentence, document_from
from openchatkit.retrieval.readers import READERS, decode
from openchatkit.retrieval.records import RECORD_SUFFIXES

PDF = ".pdf"
SUFFIXES = frozenset({*READERS, *RECORD_SUFFIXES, PDF})
"""Kinds of file that are read, lower case."""
MAX_TEXT_BYTES = 64 * 2**20
"""Of a file that is read whole: an annual report as EDGAR gives it has at most some 30 MB."""
MAX_PDF_BYTES = 512 * 2**20
INLINE_BYTES = 2**20
"""A text file up to this size is read in this process."""
MAX_MEMORY_BYTES = 2 * 2**30
"""Of the reading process, beside its code."""
SILENCE_S = 60.0
"""How long it may say nothing about a file of up to a hundred megabytes; longer for larger ones."""
MAX_EXPANSION = 200
"""Text that a file may give, in times its own size ..."""
MIN_TEXT_BYTES = 64 * 2**20
"""... and what every file may give."""
QUEUED_LINES = 64

_INLINE = frozenset(suffix for suffix in READERS if not suffix.startswith(".htm"))


def read_file(path: Path, name: str) -> Iterator[Document]:
    """Yield a file's documents, in this process.

    Args:
        path: where the file lies; its suffix says what it is.
        name: what its documents are called after.

    Raises:
        UnreadableDocument: it is too large, binary, broken, empty or cannot be opened.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in RECORD_SUFFIXES:
            # Late: these two load libraries of some size.
            from openchatkit.retrieval.records import read_records

            yield from read_records(path, name)
        elif suffix == PDF:
            from openchatkit.retrieval.pdf_reader import read_pdf

            if path.stat().st_size > MAX_PDF_BYTES:
                raise UnreadableDocument(f"larger than {MAX_PDF_BYTES} bytes")
            yield document_from(read_pdf(path), path=name, sha256=_sha256(path))
        else:
            yield _read_text(path, name, suffix)
    except OSError as error:
        raise UnreadableDocument("cannot be opened") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_text(path: Path, name: str, suffix: str) -> Document:
    with path.open("rb") as file:
        data = file.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise UnreadableDocument(f"larger than {MAX_TEXT_BYTES} bytes")
    parsed = READERS[suffix](decode(data))
    return document_from(parsed, path=name, sha256=hashlib.sha256(data).hexdigest())


class DocumentReader:
    """Reads files one after the other, the dangerous ones in a process of its own. Close it after use."""

    def __init__(self, *, silence_s: float = SILENCE_S, max_memory_bytes: int = MAX_MEMORY_BYTES) -> None:
        self._silence_s = silence_s
        self._max_memory_bytes = max_memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._pump: threading.Thread | None = None

    def __enter__(self) -> DocumentReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, path: Path, name: str) -> Iterator[Document]:
        """Yield a file's documents.

        Raises:
            UnreadableDocument: as `read_file`, and where the file took the process down, took too long
                or gives more text than such a file can hold.
        """
        try:
            size = path.stat().st_size
        except OSError as error:
            raise UnreadableDocument("cannot be opened") from error
        if path.suffix.lower() in _INLINE and size <= INLINE_BYTES:
            yield from read_file(path, name)
            return
        done = False
        try:
            yield from self._isolated(path, name, size)
            done = True
        except UnreadableDocument:
            # Where the process itself said so, it is as good as before.
            done = self._process is not None
            raise
        finally:
            if not done:
                self.close()

    def _isolated(self, path: Path, name: str, size: int) -> Iterator[Document]:
        process = self._start()
        assert process.stdin is not None
        request = json.dumps({"path": str(path), "name": name}).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(request)
            process.stdin.flush()
        patience = self._silence_s * max(1.0, size / 100e6)
        room = max(MIN_TEXT_BYTES, MAX_EXPANSION * size)
        while True:
            try:
                line = self._lines.get(timeout=patience)
            except queue.Empty:
                self.close()
                raise UnreadableDocument(f"took more than {patience:.0f} seconds") from None
            if not line:
                self.close()
                raise UnreadableDocument("crashed its reader, or needed too much memory")
            room -= len(line)
            if room < 0:
                self.close()
                raise UnreadableDocument("holds more text than a file of its size can")
            answer = json.loads(line)
            if "document" in answer:
                yield document_of(answer["document"])
            elif answer["problem"] is not None:
                raise UnreadableDocument(answer["problem"])
            else:
                return

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            # The package as this process found it, however it did.
            paths = [str(Path(openchatkit.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
            environment = {
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "ARROW_DEFAULT_MEMORY_POOL": "system",
                "OMP_NUM_THREADS": "1",
            }
            module = "openchatkit.retrieval.indexing.reading_process"
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", module, str(self._max_memory_bytes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
            self._lines = queue.Queue(QUEUED_LINES)
            assert self._process.stdout is not None
            arguments = (self._process.stdout, self._lines)
            self._pump = threading.Thread(target=_pump, args=arguments, daemon=True)
            self._pump.start()
        return self._process

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        # The thread may wait for room in its queue: it sees the pipe's end once it gets on.
        while self._pump is not None and self._pump.is_alive():
            with contextlib.suppress(queue.Empty):
                self._lines.get(timeout=0.05)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError, ValueError):
                    pipe.close()


def _pump(pipe: IO[bytes], lines: queue.Queue[bytes]) -> None:
    """Carry lines from a pipe to a queue; an empty one is the end."""
    with contextlib.suppress(ValueError, OSError):  # closed meanwhile
        for line in pipe:
            lines.put(line)
    lines.put(b"")


def document_of(values: dict[str, Any]) -> Document:
    """Return a document from the JSON object of `dataclasses.asdict`."""
    sentences = tuple(Sentence(**sentence) for sentence in values.pop("sentences"))
    return Document(**values, sentences=sentences)


def json_of(document: Document) -> dict[str, Any]:
    """Return a document as a JSON object that `document_of` reads."""
    return {**asdict(document), "metadata": dict(document.metadata)}
