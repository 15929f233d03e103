"""The engine on transformers and Accelerate: any causal language model, on a CPU or on GPUs.

Several requests are computed at once on every device, by continuous batching of its own
(`worker.py`). transformers' `ContinuousBatchingManager` was measured and is not used: on a CPU one
client gets 6 tokens/s where this makes 160, GPT-J has not the attention it needs, and it has no
seed for a request (`docs/LOG.md`, `bench/engine_cpu.py`).

Weights are read from safetensors only, and no code that comes with a model is run.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import os
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Literal

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from openchatkit.engines.forward import CausalModel
from openchatkit.engines.requests import Generation, Mailbox, Scoring
from openchatkit.engines.tokenizer import HuggingFaceTokenizer
from openchatkit.engines.worker import Worker
from openchatkit.errors import EngineFailed, OpenChatKitError
from openchatkit.ports import Chunk, SamplingParameters

logger = logging.getLogger(__name__)

Dtype = Literal["auto", "float32", "float16", "bfloat16"]

PREFILL_TOKENS_CPU = 128
PREFILL_TOKENS_ACCELERATOR = 1024
"""Tokens of a prompt between two steps of the running requests: as long as a few steps take."""

UNKNOWN_CONTEXT_LENGTH = 2048
"""For models whose configuration does not say."""


class TransformersEngine:
    """`ports.Engine` on a model of transformers.

    Args:
        model: with its weights where they are to be computed.
        max_concurrent_requests: requests that are computed at once; further ones wait.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_concurrent_requests: int,
    ) -> None:
        forward = CausalModel(model)
        on_cpu = forward.device.type == "cpu"
        self._tokenizer = HuggingFaceTokenizer(tokenizer)
        self._context_length = _context_length(model)
        self._running: set[Generation] = set()
        self._worker = Worker(
            forward,
            self._tokenizer,
            slots=max_concurrent_requests,
            end_of_text=_end_of_text(model, tokenizer),
            context_length=self._context_length,
            prefill_tokens=PREFILL_TOKENS_CPU if on_cpu else PREFILL_TOKENS_ACCELERATOR,
            threads=cpu_threads(),
        )

    @classmethod
    def load(
        cls,
        model: str,
        *,
        revision: str | None,
        dtype: Dtype,
        device_map: str,
        max_concurrent_requests: int,
    ) -> TransformersEngine:
        """Load a model and start its thread. Blocks.

        Args:
            model: a directory with a causal language model in safetensors, or a hub id.
            revision: commit of a hub id.
            dtype: `auto` is the checkpoint's own on an accelerator and float32 on a CPU.
            device_map: as in Accelerate.

        Raises:
            EngineFailed: the model is not there, or is not one that this engine can run.
        """
        local = Path(model).is_dir()
        if dtype == "auto" and (device_map == "cpu" or not torch.accelerator.is_available()):
            dtype = "float32"
        # trust_remote_code is given because without it a model with code of its own asks on the
        # terminal.
        common = {
            "revision": None if local else revision,
            "local_files_only": local,
            "trust_remote_code": False,
        }
        try:
            tokenizer = AutoTokenizer.from_pretrained(model, **common)
            weights = AutoModelForCausalLM.from_pretrained(
                model, dtype=dtype, device_map=device_map, use_safetensors=True, **common
            )
        except (OSError, ValueError) as error:
            raise EngineFailed(f"cannot load a causal language model in safetensors from {model}") from error
        if weights._is_stateful:
            raise EngineFailed(f"{model} keeps a state instead of keys and values; it cannot be batched here")
        return cls(weights, tokenizer, max_concurrent_requests=max_concurrent_requests)

    @property
    def tokenizer(self) -> HuggingFaceTokenizer:
        """The tokenizer of the model."""
        return self._tokenizer

    @property
    def context_length(self) -> int:
        """Most tokens of a prompt and its reply together."""
        return self._context_length

    @property
    def active_requests(self) -> int:
        """Requests that are being computed now."""
        return self._worker.active

    async def generate(
        self, prompt: str, parameters: SamplingParameters, request_id: str
    ) -> AsyncGenerator[Chunk, None]:
        """Yield the reply in chunks; see `ports.Engine.generate`."""
        mailbox = Mailbox(asyncio.get_running_loop())
        request = Generation(request_id, prompt, parameters, mailbox)
        self._running.add(request)
        try:
            self._worker.submit(request)
            while True:
                result = await mailbox.results.get()
                if isinstance(result, OpenChatKitError):
                    raise result
                assert isinstance(result, Chunk)
                yield result
                if result.finish_reason:
                    return
        finally:
            self._running.discard(request)
            self._worker.cancel(request)

    async def score(self, prompt: str, choices: Sequence[str]) -> list[float]:
        """Return the probability of each choice; see `ports.Engine.score`.

        Raises:
            EngineFailed, OutOfMemory: the model could not go on.
        """
        if not choices:
            return []
        mailbox = Mailbox(asyncio.get_running_loop())
        request = Scoring(prompt, choices, mailbox)
        try:
            self._worker.submit(request)
            result = await mailbox.results.get()
        finally:
            self._worker.cancel(request)
        if isinstance(result, OpenChatKitError):
            raise result
        assert isinstance(result, list)
        return result

    async def abort(self, request_id: str) -> None:
        """Stop a request before its next token; its stream ends with `cancelled`."""
        for request in self._running:
            if request.request_id == request_id:
                self._worker.cancel(request)

    async def close(self) -> None:
        """End the thread. Requests that are pending fail with `EngineFailed`."""
        await asyncio.to_thread(self._worker.close)


def _context_length(model: PreTrainedModel) -> int:
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(length or UNKNOWN_CONTEXT_LENGTH)


def _end_of_text(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens that end a reply: the model's own, else the tokenizer's."""
    own = model.generation_config.eos_token_id if model.generation_config else None
    ids = own if own is not None else tokenizer.eos_token_id
    if ids is None:
        return frozenset()
    return frozenset(ids) if isinstance(ids, list) else frozenset([ids])


@functools.cache  # the first engine's thread changes what PyTorch says
def cpu_threads() -> int | None:
    """Return the threads of one operation: one less than there are cores to run on.

    The threads of an operation wait for each other in a busy loop. Where one of them has to share
    its core with anybody, with the event loop of this process to begin with, all the others wait:
    on two cores with other work, two threads took 200 ms for a step that one thread makes in 5 ms,
    and saved a third of it with the cores to themselves. `OMP_NUM_THREADS` overrides.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return None
    allowed = float(torch.get_num_threads())
    if hasattr(os, "sched_getaffinity"):
        allowed = min(allowed, len(os.sched_getaffinity(0)))
    try:
        # PyTorch counts the machine's cores; a container may be allowed a part of them only.
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            allowed = min(allowed, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # not Linux, or an older cgroup: no quota to see
        pass
    return max(1, int(allowed) - 1)
