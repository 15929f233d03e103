"""Tasks of a build, done here or by several processes; their results never depend on how many there are."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, TypeVar

from openchatkit.retrieval.index import IndexedEncoder
from openchatkit.retrieval.indexing.reading import DocumentReader

Task = TypeVar("Task")


class WorkerLost(RuntimeError):
    """A process of the build was killed. What was done is kept: the same call goes on from there."""


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """An encoder as another process can load it."""

    model: str
    """A directory or a hub id."""
    revision: str | None = None
    device: str = "cpu"


@dataclass
class Tools:
    """What tasks work with. Both are made when they are first needed."""

    load_encoder: Callable[[], IndexedEncoder]
    _encoder: IndexedEncoder | None = field(default=None, init=False)
    _reader: DocumentReader | None = field(default=None, init=False)

    @property
    def encoder(self) -> IndexedEncoder:
        """The encoder."""
        if self._encoder is None:
            self._encoder = self.load_encoder()
        return self._encoder

    @property
    def reader(self) -> DocumentReader:
        """The reader of files."""
        if self._reader is None:
            self._reader = DocumentReader()
        return self._reader

    def close(self) -> None:
        """End what was started."""
        if self._reader is not None:
            self._reader.close()


_tools: Tools | None = None
"""Of a worker process."""


def _start(spec: EncoderSpec, processes: int) -> None:
    global _tools

    def load() -> IndexedEncoder:
        import torch

        from openchatkit.retrieval.encoder import SentenceEncoder

        torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
        return SentenceEncoder.load(spec.model, revision=spec.revision, device=spec.device)

    _tools = Tools(load)


def _work(function: Callable[[Tools, Any], int], task: object) -> int:
    assert _tools is not None
    return function(_tools, task)


class Workers:
    """Does tasks with `processes` processes, or in this one where that is 1. Close it after use."""

    def __init__(self, tools: Tools, *, processes: int = 1, spec: EncoderSpec | None = None) -> None:
        self.tools = tools
        self._pool: ProcessPoolExecutor | None = None
        if processes > 1:
            if spec is None:
                raise ValueError("several processes need an encoder that each of them can load")
            self._pool = ProcessPoolExecutor(
                processes, mp_context=_context(), initializer=_start, initargs=(spec, processes)
            )

    @property
    def in_process(self) -> bool:
        """Whether tasks are done in this process."""
        return self._pool is None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self.tools.close()

    def run(self, function: Callable[[Tools, Task], int], tasks: Sequence[Task]) -> Iterator[int]:
        """Do all tasks, in any order, and yield what each returns as it is done.

        Raises:
            WorkerLost: a process was killed.
        """
        if self._pool is None:
            for task in tasks:
                yield function(self.tools, task)
            return
        futures = [self._pool.submit(_work, function, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise WorkerLost("a process of the build was killed; run the same command to go on") from error
        finally:
            for future in futures:
                future.cancel()


def _context() -> multiprocessing.context.BaseContext:
    """Processes that start without this one's threads, and with PyTorch imported once for all."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    with contextlib.suppress(ValueError):
        context.set_forkserver_preload(
            ["openchatkit.retrieval.encoder", "openchatkit.retrieval.indexing.steps"]
        )
    return context
