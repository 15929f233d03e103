"""Passages that stand in an index twice: found by MinHash, in memory that does not grow with the words.

A passage is some sentences under one heading. Two of them count as one where nine tenths of their runs
of three words are the same, and all of their numbers: the same sentence about another year is another
sentence. A short passage is compared behind its document's title, for `It was founded in 1999.` may be
said of two companies. Of passages that are the same, the first one stays.

Not a library: datasketch keeps its buckets as Python objects in memory; here a passage
costs 264 bytes on disk, and one band of all passages (8 bytes each) is sorted at a time.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from openchatkit.retrieval.documents import Document

PASSAGE_CHARACTERS = 700
SHINGLE_WORDS = 3
PERMUTATIONS = 64
BANDS = 16
MIN_SHARE = 0.9
SHORT_WORDS = 15
WIDTH = PERMUTATIONS + 2
"""Of a signature: one minimum a permutation, then a hash of the numbers in two halves."""

Signatures = NDArray[np.uint32]

_WORD = re.compile(r"[^\W_]+(?:[.,'’&-][^\W_]+)*")
_random = np.random.default_rng(1)
_FACTORS = _random.integers(1, 2**62, PERMUTATIONS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_SHIFTS = _random.integers(0, 2**63, PERMUTATIONS, dtype=np.uint64)


def passages(document: Document) -> list[range]:
    """Return the numbers of the sentences of each passage of a document."""
    found: list[range] = []
    start = size = 0
    for number, sentence in enumerate(document.sentences):
        size += len(sentence.text) + 1
        if number > start and (
            size > PASSAGE_CHARACTERS or sentence.place != document.sentences[start].place
        ):
            found.append(range(start, number))
            start, size = number, len(sentence.text) + 1
    found.append(range(start, len(document.sentences)))
    return found


def signatures(document: Document) -> Signatures:
    """Return a signature for each passage of a document, `(passages, WIDTH)`."""
    rows = [_signature(document, numbers) for numbers in passages(document)]
    return np.array(rows, dtype=np.uint32).reshape(len(rows), WIDTH)


def _signature(document: Document, numbers: range) -> Signatures:
    words = [w for number in numbers for w in _WORD.findall(document.sentences[number].text.lower())]
    if len(words) < SHORT_WORDS:
        place = document.sentences[numbers.start].place or ""
        words = [*_WORD.findall(f"{document.title} {place}".lower()), *words]
    figures = " ".join(word for word in words if any(map(str.isdigit, word))).encode("utf-8", "replace")
    joined = (
        zip(*(words[at:] for at in range(SHINGLE_WORDS)), strict=False) if len(words) > 2 else [tuple(words)]
    )
    hashes = np.array(
        [zlib.crc32(" ".join(run).encode("utf-8", "replace")) for run in joined], dtype=np.uint64
    )
    mixed = hashes[:, None] * _FACTORS + _SHIFTS
    minima = (mixed >> np.uint64(32)).min(axis=0).astype(np.uint32)
    return np.concatenate([minima, np.array([zlib.crc32(figures), zlib.adler32(figures)], dtype=np.uint32)])


def find_duplicates(rows: Signatures) -> NDArray[np.bool_]:
    """Return for each passage whether an earlier one that stays says the same."""
    dropped = np.zeros(len(rows), dtype=bool)
    pairs = [pair for band in range(BANDS) for pair in _alike(rows, band)]
    if not pairs:
        return dropped
    for later, earlier in np.unique(np.concatenate(pairs), axis=0):
        if not dropped[earlier]:
            dropped[later] = True
    return dropped


def _alike(rows: Signatures, band: int) -> Iterator[NDArray[np.int64]]:
    """Yield pairs (later, earlier) that share a band, and enough of all the rest."""
    width = PERMUTATIONS // BANDS
    keys = np.zeros(len(rows), dtype=np.uint64)
    for column in range(band * width, (band + 1) * width):
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + rows[:, column]
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1]) + 1
    if not len(same):
        return
    # The first passage of each run of equal keys, and the one before in the run.
    starts = np.ones(len(order), dtype=bool)
    starts[same] = False
    run = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    for earlier in (run[same], same - 1):
        yield from _verified(rows, order[same], order[earlier])


def _verified(
    rows: Signatures, later: NDArray[np.int64], earlier: NDArray[np.int64], chunk: int = 65_536
) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(later), chunk):
        one, other = later[start : start + chunk], earlier[start : start + chunk]
        agreeing = rows[one] == rows[other]
        enough = agreeing[:, :PERMUTATIONS].sum(axis=1) >= MIN_SHARE * PERMUTATIONS
        right = enough & agreeing[:, PERMUTATIONS:].all(axis=1)
        if right.any():
            yield np.stack([one[right], other[right]], axis=1)


def dropped_sentences(document: Document, duplicates: Sequence[bool] | NDArray[np.bool_]) -> list[int]:
    """Return the numbers of a document's sentences that stand in dropped passages."""
    pairs = zip(passages(document), duplicates, strict=True)
    return [number for numbers, dropped in pairs if dropped for number in numbers]
