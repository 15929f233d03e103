from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors.torch import save

from staging.errors import StagingError
from staging.shards import shard_index, tensor_sizes


def sizes(content: bytes) -> dict[str, int]:
    return tensor_sizes(lambda offset, count: content[offset : offset + count])


def test_sizes_come_from_the_header() -> None:
    content = save({"a": torch.zeros(3, dtype=torch.float16), "b": torch.zeros(2, 2)}, {"format": "pt"})
    assert sizes(content) == {"a": 6, "b": 16}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        struct.pack("<Q", 10**12) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"nope",
        struct.pack("<Q", 9) + b'{"a": {}}',
    ],
)
def test_what_has_no_header(content: bytes) -> None:
    with pytest.raises(StagingError, match="no readable header"):
        sizes(content)


def test_the_index_names_the_shard_of_each_tensor() -> None:
    index = json.loads(shard_index({"model-2": {"c": 4}, "model-1": {"b": 2, "a": 1}}))
    assert index == {
        "metadata": {"total_size": 7},
        "weight_map": {"a": "model-1", "b": "model-1", "c": "model-2"},
    }


def test_one_tensor_in_two_shards() -> None:
    with pytest.raises(StagingError, match=r"^two shards hold the tensor a: x and y$"):
        shard_index({"x": {"a": 1}, "y": {"a": 1}})
