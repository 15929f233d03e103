"""Calls of several threads that are computed together."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from openchatkit.ports import Embedding
from openchatkit.retrieval.combiner import Combiner


class Slow:
    """Lengths of texts, one batch at a time or it says so."""

    def __init__(self, seconds: float = 0.02) -> None:
        self.seconds = seconds
        self.batches: list[list[str]] = []
        self.overlaps = 0
        self._busy = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> Embedding:
        if not self._busy.acquire(blocking=False):
            self.overlaps += 1
            return np.zeros((len(texts), 1), dtype=np.float32)
        try:
            self.batches.append(list(texts))
            time.sleep(self.seconds)
            if "bad" in texts:
                raise ValueError("a bad text")
            return np.array([[len(text)] for text in texts], dtype=np.float32)
        finally:
            self._busy.release()


def ask(combiner: Combiner, texts: list[list[str]]) -> list[list[float]]:
    with ThreadPoolExecutor(len(texts)) as pool:
        return [vectors[:, 0].tolist() for vectors in pool.map(combiner, texts)]


def test_each_caller_gets_its_own_vectors() -> None:
    slow = Slow()
    asked = [["a" * (number + 1)] * (number % 3 + 1) for number in range(24)]
    assert ask(Combiner(slow, most=8), asked) == [[float(len(text)) for text in texts] for texts in asked]
    assert slow.overlaps == 0
    assert len(slow.batches) < len(asked) / 2  # one after the other would be as many as callers
    assert all(len(batch) <= 8 for batch in slow.batches)


def test_one_caller_may_have_more_than_fit_together() -> None:
    slow = Slow(0.0)
    assert len(Combiner(slow, most=2)(["x"] * 5)) == 5
    assert slow.batches == [["x"] * 5]


def test_nothing_is_computed_twice() -> None:
    slow = Slow()
    ask(Combiner(slow, most=32), [[f"text {number}"] for number in range(16)])
    assert sorted(text for batch in slow.batches for text in batch) == sorted(f"text {n}" for n in range(16))


def test_a_text_that_fails_fails_its_caller_alone() -> None:
    slow = Slow()
    combiner = Combiner(slow, most=32)

    def one(text: str) -> float | str:
        try:
            return float(combiner([text])[0, 0])
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(9) as pool:
        found = list(pool.map(one, ["good", "bad", *["fine"] * 7]))
    assert found == [4.0, "a bad text", *[4.0] * 7]
    assert combiner(["after"])[0, 0] == 5


def test_no_text_is_no_error() -> None:
    assert Combiner(lambda texts: np.empty((len(texts), 3), dtype=np.float32), most=4)([]).shape == (0, 3)


@pytest.mark.parametrize("callers", [1, 2])
def test_alone_nobody_waits(callers: int) -> None:
    slow = Slow(0.0)
    combiner = Combiner(slow, most=4)
    for _ in range(callers):
        combiner(["x"])
    assert len(slow.batches) == callers


def test_a_thread_that_is_ended_in_its_midst_leaves_the_others_theirs() -> None:
    begun, go = threading.Event(), threading.Event()
    ended: list[Sequence[str]] = []

    def compute(texts: Sequence[str]) -> Embedding:
        begun.set()
        assert go.wait(10)
        if len(texts) > 1 and not ended:
            ended.append(texts)
            raise SystemExit
        return np.ones((len(texts), 1), dtype=np.float32)

    combiner = Combiner(compute, most=8)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(combiner, ["first"])
        assert begun.wait(10)
        others = [pool.submit(combiner, [f"other {number}"]) for number in range(2)]
        while len(combiner._waiting) < 2:
            time.sleep(0.001)
        go.set()
        assert first.result(10).shape == (1, 1)
        outcomes = [type(each.exception(10)) for each in others]
    assert sorted(kind.__name__ for kind in outcomes) == ["NoneType", "SystemExit"]
