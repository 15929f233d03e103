from __future__ import annotations

import io
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from staging import convert
from staging.convert import convert_shard
from staging.errors import StagingError


class Evil:
    """What a pickle can do to the one who reads it."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (Path.write_text, (Path("evil.txt"), "run"))  # type: ignore[return-value]


def shard(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_every_kind_of_tensor_keeps_its_bytes(tmp_path: Path) -> None:
    tensors = {
        "half": torch.randn(3, 5).half(),
        "bfloat": torch.randn(7).bfloat16(),
        "mask": torch.tensor([True, False]),
        "integer": torch.arange(4, dtype=torch.uint8),
        "scalar": torch.tensor(-1e9),
        "empty": torch.zeros(0, 4),
        "nan": torch.tensor([float("nan"), -0.0, float("inf")]),
        "parameter": torch.nn.Parameter(torch.randn(2)),
    }
    convert_shard(shard(tmp_path / "a.bin", tensors), tmp_path / "out" / "a.safetensors")
    loaded = load_file(tmp_path / "out" / "a.safetensors")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (loaded[name].dtype, loaded[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(loaded[name].nan_to_num(), tensor.detach().nan_to_num())
        assert torch.equal(loaded[name].isnan(), tensor.isnan())
    with safe_open(tmp_path / "out" / "a.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_tied_and_overlapping_tensors_are_written_each_by_itself(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "embed": base,
        "head": base,
        "row": base[1],
        "column": base[:, 2],
        "turned": base.T,
        "repeated": torch.ones(1).expand(3),
    }
    convert_shard(shard(tmp_path / "a.bin", tensors), tmp_path / "a.safetensors")
    loaded = load_file(tmp_path / "a.safetensors")
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_a_pickle_with_code_is_refused_and_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = shard(tmp_path / "a.bin", {"weight": torch.ones(2), "evil": Evil()})
    with pytest.raises(StagingError, match=r"^a\.bin holds more than tensors and was refused$"):
        convert_shard(path, tmp_path / "a.safetensors")
    assert not (tmp_path / "evil.txt").exists()
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize("content", [[torch.ones(1)], {}, {"weight": 3}, {1: torch.ones(1)}])
def test_what_is_no_mapping_of_names_to_tensors(tmp_path: Path, content: object) -> None:
    with pytest.raises(StagingError, match=r"^a\.bin is not a mapping of names to tensors$"):
        convert_shard(shard(tmp_path / "a.bin", content), tmp_path / "a.safetensors")


@pytest.mark.filterwarnings("ignore:.*sparse tensor invariants")
def test_sparse_tensors_are_refused(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.bin", {"weight": torch.eye(3).to_sparse_coo()})  # type: ignore[no-untyped-call]
    with pytest.raises(StagingError, match="sparse or quantised"):
        convert_shard(path, tmp_path / "a.safetensors")


@pytest.mark.parametrize("kind", ["old format", "text", "empty", "cut off"])
def test_what_is_no_checkpoint(tmp_path: Path, kind: str) -> None:
    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(1000)}, buffer)
    old = io.BytesIO()
    torch.save({"weight": torch.ones(9)}, old, _use_new_zipfile_serialization=False)
    path = tmp_path / "a.bin"
    path.write_bytes(
        {
            "old format": old.getvalue(),
            "text": b"version https://git-lfs.github.com/spec/v1\n",
            "empty": b"",
            "cut off": buffer.getvalue()[:2000],
        }[kind]
    )
    with pytest.raises(
        StagingError, match=r"^a\.bin (is not a checkpoint in PyTorch's zip format|holds more)"
    ):
        convert_shard(path, tmp_path / "a.safetensors")


def test_a_file_that_came_out_different_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that swaps two bytes of one tensor."""
    written = safetensors.torch.save_file

    def save_wrongly(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
        written({name: tensor.flip(0) for name, tensor in tensors.items()}, path, metadata)

    monkeypatch.setattr(convert, "save_file", save_wrongly)
    path = shard(tmp_path / "a.bin", {"weight": torch.tensor([1.0, 2.0])})
    with pytest.raises(StagingError, match=r"^a\.bin: tensor weight came out different$"):
        convert_shard(path, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_memory_does_not_grow_with_the_shard(tmp_path: Path) -> None:
    """Pages of the two files may stay mapped; what the process owns itself stays small."""
    size = 128 * 2**20
    path = shard(
        tmp_path / "a.bin", {f"{n}": torch.full((size // 32,), n, dtype=torch.uint8) for n in range(32)}
    )
    peaks: list[int] = []
    written = safetensors.torch.save_file

    def measured(*arguments: object, **options: object) -> None:
        written(*arguments, **options)  # type: ignore[arg-type]
        peaks.append(own_memory())

    before = own_memory()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "save_file", measured)
        convert_shard(path, tmp_path / "a.safetensors")
    assert max(*peaks, own_memory()) - before < size // 4


def own_memory() -> int:
    """The anonymous memory of this process in bytes."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024
