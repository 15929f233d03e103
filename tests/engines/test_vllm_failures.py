"""What becomes of vLLM's failures, on a stand-in for its `AsyncLLM`: this runs without vLLM too."""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from openchatkit.errors import EngineFailed, OutOfMemory
from tests.engines.models import parameters, tiny_tokenizer

CANARY = "canary-3e07"


class Dead(Exception):
    """Stands for vLLM's `EngineDeadError` where vLLM is not installed."""


class Anything:
    """Stands for what of vLLM is only handed on."""

    def __init__(self, *given: object, **fields: object) -> None:
        self.__dict__.update(fields)

    DELTA = FINAL_ONLY = None


NAMES: dict[str, dict[str, object]] = {
    "vllm": {"SamplingParams": Anything},
    "vllm.config": {"CUDAGraphMode": SimpleNamespace(FULL="full")},
    "vllm.engine": {},
    "vllm.engine.arg_utils": {"AsyncEngineArgs": Anything},
    "vllm.inputs": {},
    "vllm.inputs.engine": {"tokens_input": lambda tokens: tokens},
    "vllm.outputs": {"CompletionOutput": Anything, "RequestOutput": Anything},
    "vllm.platforms": {"current_platform": Anything},
    "vllm.sampling_params": {"MAX_LOGPROB_TOKEN_IDS": 8, "RequestOutputKind": Anything},
    "vllm.v1": {},
    "vllm.v1.engine": {},
    "vllm.v1.engine.async_llm": {"AsyncLLM": Anything},
    "vllm.v1.engine.exceptions": {"EngineDeadError": Dead},
}


@pytest.fixture(scope="module")
def vllm_engine() -> Iterator[ModuleType]:
    """`engines/vllm_engine.py`, over a stand-in's names where vLLM is not installed."""
    name = "openchatkit.engines.vllm_engine"
    if find_spec("vllm") is not None:
        yield importlib.import_module(name)
        return
    for module, members in NAMES.items():
        sys.modules[module] = ModuleType(module)
        vars(sys.modules[module]).update(members)
    yield importlib.import_module(name)
    for module in (name, *NAMES):
        del sys.modules[module]


class FailingLlm:
    """An `AsyncLLM` whose every request, and every wish to stop one, fails with `error`."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error
        self.vllm_config = SimpleNamespace(
            model_config=SimpleNamespace(max_model_len=512),
            compilation_config=SimpleNamespace(cudagraph_mode=None, max_cudagraph_capture_size=None),
        )
        self.output_processor = SimpleNamespace(request_states={})
        self.errored = False

    def get_tokenizer(self) -> Any:
        return tiny_tokenizer()

    async def generate(self, prompt: object, asked: object, request_id: str) -> AsyncGenerator[Any, None]:
        if self.error is not None:
            raise self.error
        yield None

    async def abort(self, request_id: object, internal: bool = False) -> None:
        if self.error is not None:
            raise self.error

    async def get_supported_tasks(self) -> tuple[str, ...]:
        return ("generate",)

    def shutdown(self) -> None:
        pass


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def met(error: Exception, context: Exception) -> Exception:
    error.__context__ = context
    return error


async def ask(engine: Any) -> None:
    async for _ in engine.generate("Revenue", parameters(), "r"):
        raise AssertionError("nothing can come of it")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        caused(RuntimeError(), torch.OutOfMemoryError("CUDA out of memory.")),
        # What was raised in vLLM's process arrives as text.
        caused(RuntimeError(), RuntimeError("Call to step failed: CUDA error: out of memory")),
        met(
            RuntimeError(), caused(RuntimeError(), RuntimeError("torch.OutOfMemoryError: HIP out of memory"))
        ),
    ],
)
async def test_memory_that_ran_out_is_said(vllm_engine: ModuleType, error: Exception) -> None:
    deaths: list[str] = []
    engine = vllm_engine.VllmEngine(FailingLlm(error), on_death=lambda: deaths.append("x"))
    with pytest.raises(OutOfMemory):
        await ask(engine)
    with pytest.raises(OutOfMemory):
        await engine.score("Revenue", ["a", "b"])
    assert deaths == []


async def test_another_failure_is_one_of_the_engine(
    vllm_engine: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    deaths: list[str] = []
    cause = ValueError("the memory of an elephant")
    error = caused(RuntimeError(CANARY), cause)
    caused(cause, error)  # a chain that leads back into itself
    engine = vllm_engine.VllmEngine(FailingLlm(error), on_death=lambda: deaths.append("x"))
    with pytest.raises(EngineFailed) as failure:
        await ask(engine)
    assert CANARY not in failure.value.message
    assert deaths == []
    assert caplog.text == ""


@pytest.mark.parametrize("way", ["generate", "score", "abort"])
async def test_a_dead_core_is_told_to_the_host_once(
    vllm_engine: ModuleType, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    caplog.set_level(logging.DEBUG)
    deaths: list[str] = []
    error = vllm_engine.EngineDeadError()
    llm = FailingLlm(error if way != "score" else caused(RuntimeError(CANARY), error))
    engine = vllm_engine.VllmEngine(llm, on_death=lambda: deaths.append("x"))
    if way == "abort":
        engine._running["r"] = []
        await engine.abort("r")
    elif way == "score":
        with pytest.raises(EngineFailed):
            await engine.score(CANARY, ["a", "b"])
    for _ in range(2):
        with pytest.raises(EngineFailed, match="has ended"):
            await ask(engine)
    assert deaths == ["x"]
    (record,) = caplog.records
    assert (record.levelname, record.getMessage().split()[0]) == ("CRITICAL", "event=engine_dead")
    assert CANARY not in caplog.text


async def test_memory_that_ran_out_in_a_core_that_died_of_it(vllm_engine: ModuleType) -> None:
    deaths: list[str] = []
    error = caused(vllm_engine.EngineDeadError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    engine = vllm_engine.VllmEngine(FailingLlm(error), on_death=lambda: deaths.append("x"))
    with pytest.raises(OutOfMemory):
        await ask(engine)
    assert deaths == ["x"]


@pytest.mark.parametrize("closed", [False, True])
async def test_a_core_that_dies_while_nobody_asks_is_told_too(
    vllm_engine: ModuleType, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    llm = FailingLlm(vllm_engine.EngineDeadError())
    llm.vllm_config.cache_config = SimpleNamespace(num_gpu_blocks=4, block_size=16)
    monkeypatch.setattr(vllm_engine, "WATCH_S", 0.01)
    monkeypatch.setattr(vllm_engine, "AsyncLLM", SimpleNamespace(from_engine_args=lambda arguments: llm))
    died = threading.Event()
    options = vllm_engine.VllmOptions(
        dtype="float32", tensor_parallel_degree=1, memory_share=0.1, max_concurrent_requests=8
    )
    engine = vllm_engine.VllmEngine.load("model", options, on_death=died.set)
    assert not died.wait(0.1)
    if closed:
        await engine.close()
    llm.errored = True
    assert died.wait(0.2 if closed else 5) != closed
    if not closed:
        with pytest.raises(EngineFailed, match="has ended"):
            await ask(engine)
        await engine.close()


async def test_an_engine_that_is_closed_has_not_died(vllm_engine: ModuleType) -> None:
    deaths: list[str] = []
    engine = vllm_engine.VllmEngine(
        FailingLlm(vllm_engine.EngineDeadError()), on_death=lambda: deaths.append("x")
    )
    await engine.close()
    with pytest.raises(EngineFailed, match="closed"):
        await ask(engine)
    assert deaths == []
