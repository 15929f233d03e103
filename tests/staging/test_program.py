"""Whole runs in this process: the hub and S3 speak HTTP, PyTorch converts."""

from __future__ import annotations

import fcntl
import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save
from transformers import (
    AutoModelForCausalLM,
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    PreTrainedModel,
)

from staging.errors import StagingError
from tests.staging.conftest import CONFIG, MODEL, Bench, sharded

TOKENIZER = b'{"version": "1.0"}'


def safe_model() -> dict[str, bytes]:
    """A model in safetensors, with what must not be taken beside it."""
    return {
        "config.json": CONFIG,
        "generation_config.json": b"{}",
        "tokenizer.json": TOKENIZER,
        "LICENSE": b"Apache-2.0",
        "model.safetensors": save({"weight": torch.arange(4096, dtype=torch.float16)}),
        "pytorch_model.bin": b"pickle of the same",
        "modeling_custom.py": b"import os",
        "onnx/model.onnx": b"other framework",
        "README.md": b"# card",
    }


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f"layer.{n}.weight": torch.randn(64, 32, generator=generator) for n in range(9)}


def test_takes_what_a_server_needs_and_writes_the_manifest_last(bench: Bench) -> None:
    repo = bench.hub.add_repo(MODEL, safe_model())
    report = bench.stage(repo)
    expected = {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "LICENSE",
        "model.safetensors",
    }
    assert set(bench.keys()) == expected | {"manifest.json"}
    assert (report.uploaded, report.already_there) == (5, 0)
    assert report.uri == f"s3://{bench.name}/weights/{MODEL}/{repo.commit}/"

    listed = bench.s3.list_objects_v2(Bucket=bench.name)["Contents"]
    newest = max(item["LastModified"] for item in listed)
    stamp = next(item["LastModified"] for item in listed if item["Key"].endswith("/manifest.json"))
    assert stamp == newest
    manifest = bench.bucket(repo).manifest()
    assert manifest is not None
    assert (manifest.source.id, manifest.source.revision) == (MODEL, repo.commit)
    assert {file.path for file in manifest.files} == expected
    for file in manifest.files:
        content = safe_model()[file.path]
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert set(manifest.tools) == {"python", "huggingface_hub", "safetensors", "torch", "boto3"}
    assert not list(bench.work_dir.glob("model--*/*"))


def test_a_second_run_asks_the_hub_nothing_and_uploads_nothing(bench: Bench) -> None:
    repo = bench.hub.add_repo(MODEL, safe_model())
    bench.stage(repo)
    before = {
        item["Key"]: item["LastModified"] for item in bench.s3.list_objects_v2(Bucket=bench.name)["Contents"]
    }
    bench.hub.requests.clear()
    report = bench.stage(repo)
    assert (report.uploaded, report.already_there) == (0, 5)
    assert bench.hub.requests == []
    after = {
        item["Key"]: item["LastModified"] for item in bench.s3.list_objects_v2(Bucket=bench.name)["Contents"]
    }
    assert after == before


@pytest.mark.parametrize("harm", ["lost", "changed"])
def test_a_manifest_that_the_bucket_does_not_bear_out_is_no_proof(bench: Bench, harm: str) -> None:
    repo = bench.hub.add_repo(MODEL, safe_model())
    bench.stage(repo)
    key = f"weights/{MODEL}/{repo.commit}/model.safetensors"
    if harm == "lost":
        bench.s3.delete_object(Bucket=bench.name, Key=key)
    else:
        bench.s3.put_object(Bucket=bench.name, Key=key, Body=b"x" * len(safe_model()["model.safetensors"]))
    bench.hub.requests.clear()
    assert bench.stage(repo).uploaded == 1
    assert bench.s3.get_object(Bucket=bench.name, Key=key)["Body"].read() == safe_model()["model.safetensors"]


@pytest.mark.parametrize("made", ["neox", "gptj"])
def test_pickled_shards_become_the_same_model(bench: Bench, tmp_path: Path, made: str) -> None:
    torch.manual_seed(7)
    model: PreTrainedModel
    if made == "neox":
        model = GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=96,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=64,
                max_position_embeddings=64,
            )
        )
    else:
        model = GPTJForCausalLM(
            GPTJConfig(vocab_size=96, n_embd=32, n_layer=2, n_head=4, n_positions=64, rotary_dim=8)
        )
    original = {name: value.to(torch.float16) for name, value in model.state_dict().items()}
    model = model.half().eval()  # type: ignore[no-untyped-call]
    files = sharded(original, 3)
    files["config.json"] = model.config.to_json_string().encode()
    repo = bench.hub.add_repo(MODEL, files)
    bench.stage(repo)

    folder = bench.fetch(repo, tmp_path / "served")
    assert not list(folder.glob("*.bin"))
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    staged = {}
    for shard in sorted(folder.glob("model-*.safetensors")):
        for name, tensor in load_file(shard).items():
            assert index["weight_map"][name] == shard.name
            staged[name] = tensor
    assert len(list(folder.glob("model-*-of-00003.safetensors"))) == 3
    assert staged.keys() == original.keys()
    assert all(torch.equal(staged[name], original[name]) for name in original)
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in original.values())

    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float16)
    tokens = torch.arange(12).reshape(1, 12)
    with torch.inference_mode():
        assert torch.equal(loaded(tokens).logits, model(tokens).logits)


def test_goes_on_on_another_machine_without_what_is_in_the_bucket(bench: Bench, tmp_path: Path) -> None:
    """The last shard is broken: the others were uploaded, and a fresh machine needs that one alone."""
    files = sharded(tensors(), 3)
    repo = bench.hub.add_repo(MODEL, files)
    bench.stage(repo)
    prefix = f"weights/{MODEL}/{repo.commit}/"
    for name in ("manifest.json", "model-00002-of-00003.safetensors", "model.safetensors.index.json"):
        bench.s3.delete_object(Bucket=bench.name, Key=prefix + name)
    bench.work_dir = tmp_path / "fresh"
    bench.hub.requests.clear()

    report = bench.stage(repo)
    assert [path for path in files if path.endswith(".bin") and bench.hub.downloads(path)] == [
        "pytorch_model-00002-of-00003.bin"
    ]
    assert report.uploaded == 2  # that shard and the index
    folder = bench.fetch(repo, tmp_path / "served")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    for name, tensor in tensors().items():
        assert torch.equal(load_file(folder / index["weight_map"][name])[name], tensor)


def test_one_pickled_file_needs_no_index(bench: Bench, tmp_path: Path) -> None:
    files = {"config.json": CONFIG}
    files["pytorch_model.bin"] = next(c for p, c in sharded(tensors(), 1).items() if p.endswith(".bin"))
    repo = bench.hub.add_repo(MODEL, files)
    bench.stage(repo)
    assert set(bench.keys()) == {"config.json", "model.safetensors", "manifest.json"}
    loaded = load_file(bench.fetch(repo, tmp_path / "served") / "model.safetensors")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors().items())


def test_a_wrong_checksum_fails_and_the_next_run_fetches_that_file_anew(bench: Bench) -> None:
    repo = bench.hub.add_repo(MODEL, safe_model())
    bench.hub.faults.corrupt |= {"model.safetensors"}
    with pytest.raises(StagingError, match=r"^model\.safetensors came with a wrong checksum"):
        bench.stage(repo)
    assert bench.keys() == {}
    bench.hub.faults.corrupt.clear()
    bench.hub.requests.clear()
    assert bench.stage(repo).uploaded == 5
    assert len(bench.hub.downloads("model.safetensors")) == 1
    assert bench.hub.downloads("config.json") == []


def test_a_small_file_is_checked_too(bench: Bench) -> None:
    repo = bench.hub.add_repo(MODEL, safe_model())
    bench.hub.faults.corrupt |= {"tokenizer.json"}
    with pytest.raises(StagingError, match=r"^tokenizer\.json came with a wrong checksum"):
        bench.stage(repo)


def test_a_disk_too_small_is_told_before_the_download(bench: Bench) -> None:
    repo = bench.hub.add_repo(MODEL, safe_model())
    bench.hub.faults.sizes["model.safetensors"] = 10**18
    with pytest.raises(StagingError, match=r"^the disk of .* has .* free and 1000000\.0 TB are needed$"):
        bench.stage(repo)
    assert bench.hub.downloads() == []


def test_conversion_needs_room_twice(bench: Bench) -> None:
    repo = bench.hub.add_repo(MODEL, sharded(tensors(), 2))
    for path in repo.files:
        if path.endswith(".bin"):
            bench.hub.faults.sizes[path] = 10**17
    with pytest.raises(StagingError, match=r"400000\.0 TB are needed"):
        bench.stage(repo)


def test_a_dataset_goes_the_same_way(bench: Bench, tmp_path: Path) -> None:
    files = {"data/a.parquet": b"PAR1" * 2000, "data/b.parquet": b"PAR1", "script.py": b"import os"}
    repo = bench.hub.add_repo("org/wiki", files, repo_type="dataset")
    report = bench.stage(repo, "data/*.parquet")
    assert report.uploaded == 2
    assert set(bench.keys()) == {"data/a.parquet", "data/b.parquet", "manifest.json"}
    assert bench.stage(repo, "data/*.parquet").uploaded == 0
    wider = bench.stage(repo, "data/*.parquet", "script.py")
    assert (wider.uploaded, wider.already_there) == (1, 2)


def test_two_runs_at_once_do_not_mix(bench: Bench) -> None:
    repo = bench.hub.add_repo(MODEL, safe_model())
    bench.work_dir.mkdir()
    name = f"model--{MODEL.replace('/', '--')}--{repo.commit}.lock"
    with (bench.work_dir / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StagingError, match=r"^another run stages org/tiny-chat in "):
            bench.stage(repo)
    assert bench.stage(repo).uploaded == 5


def test_a_repository_may_not_bring_its_own_manifest(bench: Bench) -> None:
    repo = bench.hub.add_repo("org/wiki", {"manifest.json": b"{}"}, repo_type="dataset")
    with pytest.raises(StagingError, match=r"has a manifest\.json of its own"):
        bench.stage(repo, "*")


def test_a_working_directory_that_cannot_be_made(bench: Bench, tmp_path: Path) -> None:
    repo = bench.hub.add_repo(MODEL, safe_model())
    (tmp_path / "file").write_text("")
    bench.work_dir = tmp_path / "file" / "work"
    with pytest.raises(StagingError, match="ENOTDIR"):
        bench.stage(repo)


def test_a_folder_that_is_in_the_way(bench: Bench) -> None:
    repo = bench.hub.add_repo(MODEL, safe_model())
    folder = bench.work_dir / f"model--org--tiny-chat--{repo.commit}"
    folder.mkdir(parents=True)
    (folder / "hub").write_text("")
    with pytest.raises(StagingError, match=rf"^{folder}/hub: EEXIST$"):
        bench.stage(repo)
