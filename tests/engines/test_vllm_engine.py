"""What is particular to vLLM; what every engine does stands in `tests/contract/test_engines.py`."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from openchatkit.engines import recorded_steps
from openchatkit.errors import EngineFailed
from tests.engines.models import CONTEXT_LENGTH, parameters, tiny_model, tiny_tokenizer

pytest.importorskip("vllm", reason="vLLM is not installed here")

from vllm.config import CUDAGraphMode
from vllm.sampling_params import RequestOutputKind

from openchatkit.engines import vllm_engine
from openchatkit.engines.vllm_engine import VllmEngine, VllmOptions, engine_arguments, sampling_params

OPTIONS = VllmOptions(
    dtype="float32", tensor_parallel_degree=1, memory_share=0.1, max_concurrent_requests=8, compiled=False
)


def save_tiny(folder: Path) -> str:
    tiny_model("gpt_neox", 128).save_pretrained(str(folder))
    tiny_tokenizer().save_pretrained(str(folder))
    return str(folder)


def test_options_are_vllms_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Offline, vLLM looks for a hub's model on the disk as soon as it hears its name.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    options = VllmOptions(
        revision="abc",
        dtype="float16",
        tensor_parallel_degree=4,
        memory_share=0.6,
        max_concurrent_requests=64,
        max_model_len=1024,
        prefix_caching=False,
        quantization="fp8",
        speculation="ngram",
    )
    arguments = engine_arguments("hub/id", options)
    assert (arguments.tensor_parallel_size, arguments.gpu_memory_utilization) == (4, 0.6)
    assert (arguments.max_num_seqs, arguments.max_model_len) == (64, 1024)
    assert (arguments.revision, arguments.quantization) == ("abc", "fp8")
    assert arguments.speculative_config["method"] == "ngram"
    assert (arguments.enable_prefix_caching, arguments.enable_log_requests) == (False, False)
    assert engine_arguments(str(tmp_path), OPTIONS).revision is None


@pytest.mark.parametrize(("cuda", "caching"), [(True, True), (True, False), (False, True)])
def test_steps_are_recorded_where_that_is_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuda: bool, caching: bool
) -> None:
    monkeypatch.setattr(vllm_engine, "current_platform", SimpleNamespace(is_cuda=lambda: cuda))
    options = replace(OPTIONS, recorded_steps=True, compiled=True, prefix_caching=caching)
    arguments = engine_arguments(save_tiny(tmp_path), options)
    recorded = arguments.compilation_config.cudagraph_mode == CUDAGraphMode.FULL
    assert recorded == (cuda and caching)
    if recorded:
        assert arguments.attention_backend == "TRITON_ATTN"
        assert max(arguments.compilation_config.cudagraph_capture_sizes) == CONTEXT_LENGTH // 2


async def test_nothing_is_scored_while_recorded_steps_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = await asyncio.to_thread(VllmEngine.load, save_tiny(tmp_path), OPTIONS)
    expected = await engine.score("Revenue of", [" 2025", " euros"])
    # Nothing is recorded on a CPU: the proof compares plain steps with plain ones.
    engine._largest_step, engine._steps = 32, "unproven"
    scores = await asyncio.gather(*(engine.score("Revenue of", [" 2025", " euros"]) for _ in range(3)))
    assert [one for each in scores for one in each] == pytest.approx(expected * 3, rel=1e-3)
    monkeypatch.setattr(recorded_steps, "TOLERANCE", -1.0)
    engine._steps = "unproven"
    for _ in range(2):
        with pytest.raises(EngineFailed, match="moderation_recorded_steps"):
            await engine.score("Revenue of", [" 2025", " euros"])
    assert caplog.text.count("event=recorded_steps wrong") == 1
    await engine.close()


def test_sampling_is_said_in_vllms_terms() -> None:
    asked = parameters(temperature=0.6, top_k=40, top_p=0.9, seed=3, stop=("never",), repetition_penalty=1.2)
    params = sampling_params(asked, max_tokens=7)
    assert (params.temperature, params.top_k, params.top_p, params.seed) == (0.6, 40, 0.9, 3)
    assert (params.max_tokens, params.repetition_penalty, params.stop) == (7, 1.2, [])
    assert params.output_kind is RequestOutputKind.DELTA


def test_a_model_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="cannot run"):
        VllmEngine.load(str(tmp_path / "missing"), OPTIONS)


async def test_requests_fail_when_vllms_process_dies(tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())
    engine = await asyncio.to_thread(VllmEngine.load, save_tiny(tmp_path), OPTIONS)
    (core,) = set(multiprocessing.active_children()) - before
    stream = engine.generate("Revenue", parameters(max_new_tokens=400), "r")
    await anext(stream)
    assert core.pid is not None
    os.kill(core.pid, signal.SIGKILL)
    with pytest.raises(EngineFailed):
        async for _ in stream:
            pass
    with pytest.raises(EngineFailed):
        await anext(engine.generate("Revenue", parameters(), "later"))
    with pytest.raises(EngineFailed):
        await engine.score("Revenue", ["a", "b"])
    assert engine.active_requests == 0
    await engine.abort("r")
    await engine.close()
    core.join(60)
    assert not core.is_alive()


async def test_the_death_of_vllms_process_is_noticed_while_nobody_asks(tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())
    died = threading.Event()
    engine = await asyncio.to_thread(VllmEngine.load, save_tiny(tmp_path), OPTIONS, on_death=died.set)
    (core,) = set(multiprocessing.active_children()) - before
    assert core.pid is not None
    os.kill(core.pid, signal.SIGKILL)
    assert await asyncio.to_thread(died.wait, 30)
    await engine.close()
