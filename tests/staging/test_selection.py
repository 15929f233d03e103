from __future__ import annotations

import pytest

from staging.errors import StagingError
from staging.selection import RemoteFile, wanted_of_dataset, wanted_of_model


def files(*paths: str) -> list[RemoteFile]:
    return [RemoteFile(path, 10, "0" * 40, "1" * 64) for path in paths]


def chosen(*paths: str) -> dict[str, str]:
    """What is wanted: the path in the bucket and the one on the hub."""
    return {item.path: item.remote.path for item in wanted_of_model(files(*paths), model="org/m")}


def test_safetensors_are_taken_and_pickles_left() -> None:
    assert chosen("config.json", "model.safetensors", "pytorch_model.bin", "tf_model.h5", "README.md") == {
        "config.json": "config.json",
        "model.safetensors": "model.safetensors",
    }


def test_pickled_shards_get_the_names_of_safetensors() -> None:
    two = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    assert chosen(
        "config.json", *two, "pytorch_model.bin.index.json", "training_args.bin", "optimizer.bin"
    ) == {
        "config.json": "config.json",
        "model-00001-of-00002.safetensors": two[0],
        "model-00002-of-00002.safetensors": two[1],
    }


def test_variants_code_and_folders_stay() -> None:
    others = ["model.fp16.safetensors", "onnx/model.safetensors", "modeling_x.py", "consolidated.safetensors"]
    assert set(chosen("config.json", "model.safetensors", *others)) == {"config.json", "model.safetensors"}


def test_what_sentence_encoders_need() -> None:
    needed = {"config.json", "model.safetensors", "modules.json", "1_Pooling/config.json", "vocab.txt"}
    assert set(chosen(*needed, "1_Pooling/pytorch_model.bin")) == needed


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        (("model.safetensors",), "org/m has no config.json: it is not a model that a server can load"),
        (("config.json",), "org/m has no weights in safetensors or in PyTorch's format"),
        (
            ("config.json", "pytorch_model-00001-of-00003.bin", "pytorch_model-00003-of-00003.bin"),
            "org/m has 2 of 3 shards like pytorch_model-00001-of-00003.bin",
        ),
        (
            ("config.json", "model-00001-of-00001.safetensors", "model-00001-of-00002.safetensors"),
            "org/m has 1 of 1 shards like model-00001-of-00001.safetensors",
        ),
        (
            ("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
            "org/m has 2 shards but no model.safetensors.index.json",
        ),
    ],
)
def test_a_repository_that_is_not_whole(paths: tuple[str, ...], reason: str) -> None:
    with pytest.raises(StagingError) as refused:
        chosen(*paths)
    assert str(refused.value) == reason


def test_files_of_a_dataset() -> None:
    there = files("a/1.parquet", "a/b/2.parquet", "README.md")
    wanted = wanted_of_dataset(there, ["a/*.parquet", "README.md"], dataset="org/d")
    assert [item.path for item in wanted] == ["a/1.parquet", "a/b/2.parquet", "README.md"]
    with pytest.raises(StagingError, match=r"^org/d has no file that matches b/\*$"):
        wanted_of_dataset(there, ["a/*", "b/*"], dataset="org/d")


def test_a_pattern_that_takes_too_much() -> None:
    many = files(*(f"{number}.txt" for number in range(10_001)))
    with pytest.raises(StagingError, match=r"^the patterns match 10001 files of org/d; at most 10000"):
        wanted_of_dataset(many, ["*"], dataset="org/d")
