"""Calls of many threads computed together: who finds the device busy has his share done by the next one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from openchatkit.ports import Embedding


@dataclass(slots=True, eq=False)
class _Call:
    texts: Sequence[str]
    vectors: Embedding | None = None
    error: Exception | None = field(default=None)


class Combiner:
    """Turns concurrent calls of a function on texts into fewer calls with more texts.

    A model's threads fight for the processor when many requests compute at once, each with as many
    threads as there are cores. Here one computes at a time, and takes along what the others have brought.
    """

    def __init__(self, compute: Callable[[Sequence[str]], Embedding], *, most: int) -> None:
        """
        Args:
            compute: texts to vectors, one row a text.
            most: texts that are computed together; a single call may have more.
        """
        self._compute = compute
        self._most = most
        self._device = threading.Lock()
        self._waiting: list[_Call] = []
        self._list = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> Embedding:
        """Return the vectors of the texts.

        Raises:
            Exception: what computing these very texts raises.
        """
        mine = _Call(texts)
        with self._list:
            self._waiting.append(mine)
        with self._device:
            if mine.vectors is None and mine.error is None:
                self._serve(self._take(mine))
        if mine.error is not None:
            raise mine.error
        assert mine.vectors is not None
        return mine.vectors

    def _take(self, mine: _Call) -> list[_Call]:
        """Return one's own call and others, oldest first, as far as there is room."""
        with self._list:
            if mine in self._waiting:  # not there if the thread that had taken it was ended in its midst
                self._waiting.remove(mine)
            taken, room = [mine], self._most - len(mine.texts)
            while self._waiting and len(self._waiting[0].texts) <= room:
                taken.append(self._waiting.pop(0))
                room -= len(taken[-1].texts)
        return taken

    def _serve(self, calls: Sequence[_Call]) -> None:
        try:
            vectors = self._compute([text for call in calls for text in call.texts])
        except Exception as error:  # noqa: BLE001 - raised again by the one it belongs to
            if len(calls) == 1:
                calls[0].error = error
                return
            for call in calls:
                self._serve([call])
            return
        start = 0
        for call in calls:
            call.vectors = vectors[start : start + len(call.texts)]
            start += len(call.texts)
