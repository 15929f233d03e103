"""Engines of the bench: vLLM with weights made on the GPU, or the transformers engine where there is none."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from bench.gpu.load import Sample
from bench.gpu.shapes import Shape, tokenizer_of, write
from openchatkit.engines.transformers_engine import TransformersEngine
from openchatkit.ports import Engine, SamplingParameters

Backend = Literal["vllm", "transformers"]

TEMPERATURE, TOP_K = 0.6, 40
_numbers = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How an engine is made."""

    backend: Backend
    memory_share: float
    quantization: Literal["fp8"] | None = None
    speculation: Literal["ngram"] | None = None
    recorded_steps: bool = False
    max_concurrent_requests: int = 256
    compiled: bool = True
    dtype: Literal["float16", "float32"] = "float16"


def make_engine(shape: Shape, folder: Path, plan: Plan) -> Engine:
    """Return an engine with random weights of a shape. Blocks."""
    if plan.backend == "transformers":
        model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            shape.config(), dtype=torch.float32
        )
        return TransformersEngine(
            model, tokenizer_of(shape.vocabulary), max_concurrent_requests=plan.max_concurrent_requests
        )
    return _vllm(str(write(shape, folder)), plan, random_weights=True)


def load_engine(folder: Path, plan: Plan) -> Engine:
    """Return an engine on a model that is there. Blocks."""
    if plan.backend == "transformers":
        return TransformersEngine.load(
            str(folder),
            revision=None,
            dtype="float32",
            device_map="cpu",
            max_concurrent_requests=plan.max_concurrent_requests,
        )
    return _vllm(str(folder), plan, random_weights=False)


def _vllm(model: str, plan: Plan, *, random_weights: bool) -> Engine:
    from vllm.v1.engine.async_llm import AsyncLLM

    from openchatkit.engines.vllm_engine import VllmEngine, VllmOptions, engine_arguments, prepare_environment

    prepare_environment()
    options = VllmOptions(
        dtype=plan.dtype,
        tensor_parallel_degree=1,
        memory_share=plan.memory_share,
        max_concurrent_requests=plan.max_concurrent_requests,
        quantization=plan.quantization,
        speculation=plan.speculation,
        recorded_steps=plan.recorded_steps,
        compiled=plan.compiled,
    )
    arguments = engine_arguments(model, options)
    if random_weights:
        arguments = replace(arguments, load_format="dummy")
    return VllmEngine(AsyncLLM.from_engine_args(arguments))


class Alone:
    """The model alone, as its library serves it: nothing of ours on vLLM's way."""

    def __init__(
        self, engine: Engine, tokenizer: PreTrainedTokenizerFast, backend: Backend, reply_tokens: int
    ) -> None:
        self._engine = engine
        self._reply_tokens = reply_tokens
        self._tokenizer = tokenizer
        self._stream = self._vllm if backend == "vllm" else self._transformers

    async def ask(self, prompt: list[int]) -> Sample:
        """Generate a reply of the bench's length."""
        began = time.perf_counter()
        first, tokens = 0.0, 0
        async for made in self._stream(prompt):
            tokens += made
            first = first or time.perf_counter() - began
        return Sample(first, first, time.perf_counter() - began, tokens, len(prompt))

    async def _vllm(self, prompt: list[int]) -> AsyncGenerator[int, None]:
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind

        asked = SamplingParams(
            temperature=TEMPERATURE,
            top_k=TOP_K,
            max_tokens=self._reply_tokens,
            ignore_eos=True,
            output_kind=RequestOutputKind.DELTA,
        )
        async_llm: Any = self._engine.async_llm  # type: ignore[attr-defined]
        async for output in async_llm.generate(tokens_input(prompt), asked, f"alone-{next(_numbers)}"):
            yield len(output.outputs[0].token_ids)

    async def _transformers(self, prompt: list[int]) -> AsyncGenerator[int, None]:
        asked = SamplingParameters(TEMPERATURE, TOP_K, 1.0, self._reply_tokens, 1.0, ())
        text = str(self._tokenizer.decode(prompt))
        async for chunk in self._engine.generate(text, asked, f"alone-{next(_numbers)}"):
            yield chunk.tokens


async def forget_prefixes(engine: Engine, backend: Backend) -> bool:
    """Empty vLLM's prefix cache; False where it is in use, or where there is none."""
    if backend != "vllm":
        return False
    async_llm: Any = engine.async_llm  # type: ignore[attr-defined]
    for _ in range(50):
        if await async_llm.reset_prefix_cache():
            return True
        await asyncio.sleep(0.02)  # the last reply's blocks are being freed
    return False


@contextlib.asynccontextmanager
async def opened(make: Callable[[], Engine]) -> AsyncGenerator[Engine, None]:
    """Make an engine in a thread and close it at the end."""
    engine = await asyncio.to_thread(make)
    try:
        yield engine
    finally:
        await engine.close()
        del engine
        gc.collect()
