"""The bench of the GPU, as far as a CPU can hold it: its bookkeeping, and one dry run of a part."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from bench.gpu import __main__ as command
from bench.gpu import parts
from bench.gpu.figures import Recorder, find, plot, tables, targets
from bench.gpu.load import Sample, closed_loop
from bench.gpu.shapes import CHAT, JUDGE, TINY_CHAT, TINY_JUDGE, Texts, tokenizer_of, write
from bench.gpu.tiled import write_tiled
from tests.engines.models import tiny_model


def test_a_run_that_was_cut_short_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "new" / "figures.jsonl"
    Recorder(path).add("seed", "generate", tokens_per_s=37.2)
    second = Recorder(path)
    second.add("fp16", "turn", clients=64, prompt=512, tokens_per_s=1200.0)
    assert [json.loads(line)["part"] for line in path.read_text("utf-8").splitlines()] == ["seed", "fp16"]
    (target,) = targets(second.figures)
    assert target.measured == pytest.approx(1200 / 37.2)
    assert target.met


def test_targets_come_from_the_newest_figures() -> None:
    record = Recorder(None)
    for ours in (900.0, 96.0):
        record.add("fp16", "turn", clients=1, prompt=512, tokens_per_s=ours, first_token_p50_s=0.055)
    record.add("fp16", "alone", clients=1, prompt=512, tokens_per_s=100.0, first_token_p50_s=0.035)
    share, late = targets(record.figures)
    assert share.measured == pytest.approx(0.96)
    assert late.measured == pytest.approx(20)
    assert (share.met, late.met) == (False, True)
    assert "NO |" in tables(record.figures)
    assert find(record.figures, part="fp16", clients=64) is None


def test_nothing_measured_makes_no_claim() -> None:
    assert targets([]) == []
    assert tables([]) == ""


def test_a_plot_needs_its_library_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    figures = [{"part": "fp16", "name": "alone", "clients": 1, "prompt": 512, "tokens_per_s": 80}]
    assert plot(figures, path) == path.exists()


async def test_a_closed_loop_keeps_all_clients_busy() -> None:
    running, most, asked = 0, 0, []

    async def ask(number: int) -> Sample:
        nonlocal running, most
        running += 1
        most = max(most, running)
        asked.append(number)
        await asyncio.sleep(0)
        running -= 1
        return Sample(0.1, 0.2, 0.3, 10, 512)

    load = await closed_loop(3, 8, ask)
    assert (most, sorted(asked)) == (3, list(range(8)))
    figures = load.figures()
    assert (figures["requests"], figures["first_token_p50_s"], figures["reply_tokens"]) == (8, 0.1, 10)


async def test_a_failing_client_ends_the_run() -> None:
    async def ask(number: int) -> Sample:
        raise ValueError(number)

    with pytest.raises(ExceptionGroup):
        await closed_loop(2, 8, ask)


def test_the_shapes_are_those_of_the_models() -> None:
    assert CHAT.parameters == pytest.approx(20.3e9, rel=0.02)
    assert JUDGE.parameters == pytest.approx(5.9e9, rel=0.03)
    for shape in (TINY_CHAT, TINY_JUDGE):
        model = AutoModelForCausalLM.from_config(shape.config())  # type: ignore[no-untyped-call]
        matrices = sum(weights.numel() for weights in model.parameters() if weights.ndim == 2)
        assert matrices - shape.vocabulary * shape.hidden == shape.parameters


def test_a_shape_is_written_with_its_tokenizer(tmp_path: Path) -> None:
    config = json.loads((write(TINY_JUDGE, tmp_path) / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["GPTJForCausalLM"]
    tokenizer = tokenizer_of(TINY_JUDGE.vocabulary)
    assert len(Texts(1).prompt(100, tokenizer)) == 100
    assert Texts(1).prompt(100, tokenizer) != Texts(2).prompt(100, tokenizer)


def test_the_large_model_says_what_the_small_one_says(tmp_path: Path) -> None:
    small = tiny_model("gpt_neox")
    small.save_pretrained(str(tmp_path / "small"))
    write_tiled(tmp_path / "small", tmp_path / "large", tiles=3, layers=5)
    large = AutoModelForCausalLM.from_pretrained(str(tmp_path / "large"), dtype=torch.float32)
    tokens = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        expected, got = small(tokens).logits, large(tokens).logits
    assert torch.allclose(got, expected, atol=1e-3, rtol=1e-3)
    # The work is the large one's: dense matrices of three times the width.
    layer = load_file(tmp_path / "large" / "layer-004.safetensors")
    assert layer["gpt_neox.layers.4.attention.query_key_value.weight"].shape == (9 * 32, 3 * 32)


async def test_one_part_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(scale: parts.Scale, record: Recorder) -> None:
        raise RuntimeError

    monkeypatch.setattr(parts, "seed", broken)
    record = Recorder(None)
    assert await command.measure(["seed", "roofline"], parts.DRY, record) == ["seed"]
    assert {figure["part"] for figure in record.figures} == {"roofline"}
