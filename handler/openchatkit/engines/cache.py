"""The key-value cache of a batch whose rows come and go, each with a length of its own.

Rows are flush right: all end at one column, so a step writes one column for the whole batch in
place, and what stands to the left of a shorter row is masked. This is the layout that transformers
generates batches in (left padding), which is why every architecture can work on it, those with
sliding windows too.

    row 0   . . . p p p p p t t |          . padding
    row 1   p p p p p p p t t t |          p prompt, t generated
    row 2   . . . . . . p p t t |          | `end`: where the next step writes
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

SLACK = 128
"""Columns kept free to the right, i.e. steps between two copies of the whole cache."""


@dataclass(slots=True)
class _Window:
    """The part of the buffers in use: rows `[0, rows)`, columns `[start, end)`."""

    rows: int = 0
    start: int = 0
    end: int = 0

    @property
    def width(self) -> int:
        return self.end - self.start


class _BatchLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's buffers, shape `(row capacity, heads, column capacity, head dimension)`."""

    def __init__(self, window: _Window, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self._window = window
        self.keys: torch.Tensor = keys
        self.values: torch.Tensor = values

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: object, **_kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the step's column; `BatchCache.commit` moves `end`, so a failed step can be repeated."""
        window = self._window
        written = slice(window.end, window.end + key_states.shape[-2])
        seen = slice(window.start, written.stop)
        self.keys[: window.rows, :, written] = key_states
        self.values[: window.rows, :, written] = value_states
        return self.keys[: window.rows, :, seen], self.values[: window.rows, :, seen]

    def get_seq_length(self) -> int:
        return self._window.width


class BatchCache(Cache):
    """Keys and values of the running requests; row `i` belongs to the i-th of them."""

    def __init__(self, max_rows: int) -> None:
        super().__init__(layers=[])
        self._max_rows = max_rows
        self._window = _Window()
        self.lengths: list[int] = []
        """Tokens of each row."""

    @property
    def width(self) -> int:
        """Columns in use: the length of the longest row."""
        return self._window.width

    def add(self, prefilled: Cache) -> None:
        """Append a row with the one row of another cache; on an error nothing has changed."""
        length = prefilled.get_seq_length()
        window = self._window
        rows, end = window.rows + 1, max(window.end, length)
        if not self.layers:
            self._rebuild(rows=1, end=length, like=prefilled)
        elif rows > self._capacity[0] or end + 1 > self._capacity[1]:
            capacity = self._capacity[0]
            grown = capacity if rows <= capacity else min(2 * capacity, self._max_rows)
            self._rebuild(rows=grown, end=max(self.width, length))
        elif end > window.end:
            self._rebuild(rows=self._capacity[0], end=end)
        end = window.end
        for mine, source in zip(_buffers(self), _buffers(prefilled), strict=True):
            mine[rows - 1, :, : end - length].zero_()
            mine[rows - 1, :, end - length : end] = source[0]
        self.lengths.append(length)
        window.rows = rows
        window.start = end - max(self.lengths)

    def remove(self, row: int) -> None:
        """Drop a row; the last row takes its place."""
        window = self._window
        last = window.rows - 1
        self.lengths[row] = self.lengths[last]
        self.lengths.pop()
        if not self.lengths:
            self.clear()
            return
        used = slice(window.start, window.end)
        for buffer in _buffers(self):
            if row != last:
                buffer[row, :, used] = buffer[last, :, used]
            # Stale numbers are masked, but a NaN among them would not stay so.
            buffer[last].zero_()
        window.rows = last
        window.start = window.end - max(self.lengths)

    def clear(self) -> None:
        """Drop all rows and give the memory back."""
        self.layers.clear()
        self.lengths.clear()
        window = self._window
        window.rows = window.start = window.end = 0

    def reserve(self) -> None:
        """Make room for one more column; on an error nothing has changed."""
        if self._window.end + 1 > self._capacity[1]:
            self._rebuild(rows=self._capacity[0], end=self.width)

    def commit(self) -> None:
        """Count the column that a step has written."""
        self._window.end += 1
        self.lengths = [length + 1 for length in self.lengths]

    def mask(self, device: torch.device) -> torch.Tensor | None:
        """Return the mask of the next step, shape `(rows, width + 1)`; None where no row is padded."""
        width = self.width
        if min(self.lengths) == width:
            return None
        padding = torch.tensor([[width - length] for length in self.lengths], device=device)
        return torch.arange(width + 1, device=device) >= padding

    @property
    def _capacity(self) -> tuple[int, int]:
        rows, _, columns, _ = next(_buffers(self)).shape
        return rows, columns

    def _rebuild(self, *, rows: int, end: int, like: Cache | None = None) -> None:
        """Move everything to new buffers in which the window ends at `end`."""
        window = self._window
        width = window.width

        def moved(buffer: torch.Tensor) -> torch.Tensor:
            _, heads, _, dimension = buffer.shape
            new = buffer.new_zeros((rows, heads, end + SLACK, dimension))
            if width:
                new[: window.rows, :, end - width : end] = buffer[: window.rows, :, window.start : window.end]
            return new

        # All or nothing: the old buffers live until the last new one is there.
        buffers = [moved(buffer) for buffer in _buffers(self if like is None else like)]
        self.layers[:] = [
            _BatchLayer(window, keys, values)
            for keys, values in zip(buffers[::2], buffers[1::2], strict=True)
        ]
        window.start, window.end = end - width, end


def _buffers(cache: Cache) -> Iterator[torch.Tensor]:
    """Yield the keys and the values of each layer in turn."""
    for layer in cache.layers:
        assert isinstance(layer, DynamicLayer)
        assert layer.keys is not None
        assert layer.values is not None
        yield layer.keys
        yield layer.values
