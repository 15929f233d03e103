"""Shards of safetensors without their tensors: what their headers say, and the index over them."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping

from staging.errors import StagingError

CONVERTER = "1"
"""Changes when the same shard would give other bytes: files of an older converter are made anew."""
MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""
LENGTH_BYTES = 8


def tensor_sizes(read: Callable[[int, int], bytes]) -> dict[str, int]:
    """Return the tensors of a safetensors file with their sizes in bytes, from its header alone.

    Args:
        read: gives the bytes from an offset, as many as the second argument says.

    Raises:
        StagingError: it is no such file.
    """
    try:
        (length,) = struct.unpack("<Q", read(0, LENGTH_BYTES))
        if length > MAX_HEADER_BYTES:
            raise ValueError
        header = json.loads(read(LENGTH_BYTES, length))
        offsets = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
        return {name: int(end) - int(start) for name, (start, end) in offsets.items()}
    except (ValueError, KeyError, TypeError, AttributeError, struct.error):
        raise StagingError("a safetensors file has no readable header") from None


def shard_index(shards: Mapping[str, Mapping[str, int]]) -> bytes:
    """Return `model.safetensors.index.json` for shards and the sizes of their tensors.

    Raises:
        StagingError: two shards hold a tensor of one name.
    """
    weight_map: dict[str, str] = {}
    for shard, tensors in sorted(shards.items()):
        for name in tensors:
            if name in weight_map:
                raise StagingError(f"two shards hold the tensor {name}: {weight_map[name]} and {shard}")
            weight_map[name] = shard
    total = sum(size for tensors in shards.values() for size in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    return (json.dumps(index, indent=2) + "\n").encode()
