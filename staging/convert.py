"""Pickled shards to safetensors: same names, same bytes, no code run, memory bounded.

A shard is unpickled with `weights_only=True`, which builds tensors and containers and refuses everything
else, and mapped into memory rather than read: its tensors are pages of the file, and what safetensors
writes goes from those pages to the new file. Only tensors that share memory or are not contiguous are
copied, since safetensors stores each by itself; tied weights are therefore written under both names.
Afterwards the new file is opened and every tensor compared with the old one, byte by byte.

Limits: PyTorch's zip format (PyTorch 1.6, 2020, and newer); a shard is a flat mapping of names to dense
tensors.
"""

from __future__ import annotations

import errno
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from staging.errors import StagingError


def convert_shard(source: Path, target: Path) -> None:
    """Write the tensors of a pickled shard to `target`, which appears only when it is whole and compared.

    Raises:
        StagingError: the shard is not one, holds more than tensors, or came out different.
        OSError: the disk.
    """
    tensors = load_pickled(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    try:
        save_file(_by_themselves(tensors), partial, metadata={"format": "pt"})
    except (ValueError, RuntimeError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        if shutil.disk_usage(target.parent).free < source.stat().st_size:
            raise OSError(errno.ENOSPC, "no space left", str(target)) from error  # safetensors hides it
        raise StagingError(
            f"{source.name} could not be written as safetensors: {type(error).__name__}"
        ) from error
    _compare(tensors, partial, source.name)
    partial.replace(target)


def load_pickled(path: Path) -> dict[str, torch.Tensor]:
    """Return a shard's tensors, mapped from the file.

    Raises:
        StagingError: it is not a zip of PyTorch's, or holds something that is not a tensor.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise StagingError(f"{path.name} holds more than tensors and was refused") from None
    except (RuntimeError, EOFError, KeyError, ValueError) as error:
        raise StagingError(f"{path.name} is not a checkpoint in PyTorch's zip format") from error
    if not isinstance(loaded, Mapping) or not loaded:
        raise StagingError(f"{path.name} is not a mapping of names to tensors")
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise StagingError(f"{path.name} is not a mapping of names to tensors")
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise StagingError(
                f"{path.name} holds a sparse or quantised tensor, which safetensors cannot keep"
            )
    return {name: tensor.detach() for name, tensor in loaded.items()}


def _by_themselves(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors, copied where they share storage with an earlier one or are not contiguous."""
    storages: set[int] = set()
    alone: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        shared = storage in storages and tensor.numel() > 0
        storages.add(storage)
        alone[name] = tensor.clone(memory_format=torch.contiguous_format) if shared else tensor.contiguous()
    return alone


def _compare(tensors: Mapping[str, torch.Tensor], path: Path, name: str) -> None:
    """Raise where the file does not hold exactly these tensors. Bytes are compared: a NaN equals itself."""
    with safe_open(path, framework="pt") as written:
        if set(written.keys()) != set(tensors):
            raise StagingError(f"{name}: the converted file has other tensors")
        for key, tensor in tensors.items():
            copy = written.get_tensor(key)
            same = copy.dtype == tensor.dtype and copy.shape == tensor.shape
            if not same or not torch.equal(_bytes(copy), _bytes(tensor)):
                raise StagingError(f"{name}: tensor {key} came out different")


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)
