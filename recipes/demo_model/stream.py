"""Packed batches from worker processes that invent and tokenise dialogues.

A batch is one row of tokens in which dialogues lie end to end; `starts` says where each begins, so
that attention stays inside a dialogue. Batches differ from run to run in order, not in kind.
"""

from __future__ import annotations

import multiprocessing
import os
import random
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from recipes.demo_model.corpus.dialogues import NOT_FOUND, dialogue

LONGEST = 1024
"""Tokens of the longest dialogue that is kept."""
REFUSAL_WEIGHT = 2
"""Of the loss on the first token of a refusal with passages at hand, in tenths: it sets how sure the model
must be that none answers. With the full weight it declined a quarter of what it could answer."""
_CHUNK = 64

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """One packed row: all arrays but `starts` have one entry a token."""

    ids: NDArray[np.uint16]
    targets: NDArray[np.uint16]
    weights: NDArray[np.uint8]
    """Of the loss on the target, in tenths."""
    positions: NDArray[np.uint16]
    starts: NDArray[np.int32]
    """Cumulative lengths from 0 to the row's length, filled up with the latter."""


class Packer:
    """Draws dialogues and packs them into rows."""

    def __init__(
        self,
        tokenizer_file: Path,
        seed: int,
        length: int,
        slots: int,
        context_weight: int,
        ranked: float,
        bare: float = 0.0,
    ) -> None:
        self.tokenizer = Tokenizer.from_file(str(tokenizer_file))
        self.rng = random.Random(seed)
        self.length = length
        self.slots = slots
        self.context_weight = context_weight
        self.ranked = ranked
        self.bare = bare
        self.waiting: list[tuple[list[int], int, int]] = []
        """Tokens, how many of them are the prompt, and the weight of the first one after it."""

    def _refill(self) -> None:
        examples = [dialogue(self.rng, ranked=self.ranked, bare=self.bare) for _ in range(_CHUNK)]
        prompts = self.tokenizer.encode_batch_fast([example.prompt for example in examples])
        replies = self.tokenizer.encode_batch_fast([f" {example.reply}" for example in examples])
        for example, prompt, reply in zip(examples, prompts, replies, strict=True):
            ids = [*prompt.ids, *reply.ids, 0]
            if len(ids) <= LONGEST:
                first = REFUSAL_WEIGHT if example.reply == NOT_FOUND else 10
                self.waiting.append((ids, len(prompt.ids), first))

    def row(self) -> Batch:
        """Return the next packed row; the last dialogue is cut off at its end."""
        ids = np.zeros(self.length + 1, np.uint16)
        weights = np.zeros(self.length, np.uint8)
        positions = np.zeros(self.length, np.uint16)
        starts = [0]
        at = 0
        while at < self.length:
            if not self.waiting:
                self._refill()
            tokens, prompt, first = self.waiting.pop()
            size = min(len(tokens), self.length - at)
            ids[at : at + size] = tokens[:size]
            positions[at : at + size] = np.arange(size)
            weights[at : at + min(prompt - 1, size)] = self.context_weight
            weights[at + min(prompt - 1, size) : at + size - 1] = 10
            if prompt - 1 < size - 1:
                weights[at + prompt - 1] = first
            at += size
            starts.append(at)
        if len(starts) > self.slots:
            starts = [*starts[: self.slots - 1], self.length]
        padded = np.full(self.slots, self.length, np.int32)
        padded[: len(starts)] = starts
        return Batch(ids[:-1], ids[1:], weights, positions, padded)


def _work(queue: Queue[Batch], file: Path, seed: int, how: tuple[int, int, int, float, float]) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    packer = Packer(file, seed, *how)
    while True:
        queue.put(packer.row())


class Stream:
    """Worker processes and the queue they fill."""

    def __init__(
        self,
        file: Path,
        workers: int,
        length: int,
        slots: int,
        context_weight: int,
        seed: int,
        ranked: float,
        bare: float = 0.0,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.queue: Queue[Batch] = context.Queue(maxsize=4 * workers)
        how = (length, slots, context_weight, ranked, bare)
        self.processes = [
            context.Process(target=_work, args=(self.queue, file, seed * 1000 + n, how), daemon=True)
            for n in range(workers)
        ]
        for process in self.processes:
            process.start()

    def next(self) -> Batch:
        """Return the next row, waiting for a worker if there is none."""
        return self.queue.get(timeout=120)

    def close(self) -> None:
        """End the workers."""
        for process in self.processes:
            process.terminate()
