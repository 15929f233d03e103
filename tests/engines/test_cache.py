from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from openchatkit.engines import cache as cache_module
from openchatkit.engines.cache import BatchCache

HEADS, DIMENSION = 2, 3


class Rows:
    """A batch cache beside the same rows as plain tensors."""

    def __init__(self) -> None:
        self.cache = BatchCache(8)
        self.plain: list[torch.Tensor] = []
        self.written = 0.0

    def add(self, length: int) -> None:
        keys = self._new(1, length)
        prefilled = DynamicCache()
        for layer in range(2):
            prefilled.update(keys + layer, -keys - layer, layer)
        self.cache.add(prefilled)
        self.plain.append(keys[0])

    def step(self) -> None:
        self.cache.reserve()
        keys = self._new(len(self.plain), 1)
        mask = self.cache.mask(torch.device("cpu"))
        seen = [self.cache.update(keys + layer, -keys - layer, layer) for layer in range(2)]
        self.cache.commit()
        self.plain = [torch.cat([old, new], dim=1) for old, new in zip(self.plain, keys, strict=True)]
        for row, plain in enumerate(self.plain):
            length = plain.shape[1]
            for layer, (layer_keys, layer_values) in enumerate(seen):
                assert torch.equal(layer_keys[row, :, -length:], plain + layer)
                assert torch.equal(layer_values[row, :, -length:], -plain - layer)
            shown = torch.ones(seen[0][0].shape[2], dtype=torch.bool) if mask is None else mask[row]
            assert shown.sum() == length
            assert shown[-length:].all()

    def remove(self, row: int) -> None:
        self.cache.remove(row)
        last = self.plain.pop()
        if row < len(self.plain):
            self.plain[row] = last

    def _new(self, rows: int, length: int) -> torch.Tensor:
        count = rows * HEADS * length * DIMENSION
        numbers = torch.arange(self.written, self.written + count)
        self.written += count
        return numbers.reshape(rows, HEADS, length, DIMENSION)


@settings(deadline=None)
@given(
    actions=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 40)),
            st.tuples(st.just("step"), st.integers(1, 12)),
            st.tuples(st.just("remove"), st.integers(0, 7)),
        ),
        max_size=25,
    )
)
def test_rows_hold_their_own_keys_whoever_comes_and_goes(actions: list[tuple[str, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache_module, "SLACK", 4)
        rows = Rows()
        for action, number in actions:
            if action == "add" and len(rows.plain) < 8:
                rows.add(number)
            elif action == "step" and rows.plain:
                for _ in range(number):
                    rows.step()
            elif action == "remove" and rows.plain:
                rows.remove(number % len(rows.plain))
        assert rows.cache.lengths == [plain.shape[1] for plain in rows.plain]


def test_a_step_that_failed_can_be_repeated() -> None:
    rows = Rows()
    rows.add(3)
    rows.cache.reserve()
    rows.cache.update(torch.full((1, HEADS, 1, DIMENSION), -7.0), torch.zeros((1, HEADS, 1, DIMENSION)), 0)
    rows.step()
    assert rows.cache.lengths == [4]


def test_the_last_row_takes_the_memory_with_it() -> None:
    rows = Rows()
    rows.add(3)
    rows.remove(0)
    assert len(rows.cache) == 0
    rows.add(5)
    rows.step()
