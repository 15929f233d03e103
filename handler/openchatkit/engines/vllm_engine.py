"""The engine on vLLM: the production default wherever there is a GPU.

`AsyncLLM` runs in this process, the model in a process of vLLM's own (one more for each further GPU).
vLLM batches, caches prefixes, prefills in chunks and turns tokens into text; what is shown of the text
is decided here, by the same code as in the transformers engine. Written against vLLM 0.23.

One engine belongs to one event loop, the first that asks it for something. vLLM's processes end
with `close`; one that died fails every request from then on, and the host, which is told by
`on_death`, has to start anew.

Weights are read from safetensors only, and no code that comes with a model is run. vLLM is told to
log no requests and to report no usage.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from vllm import SamplingParams
from vllm.config import CUDAGraphMode
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.inputs.engine import tokens_input
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.platforms import current_platform
from vllm.sampling_params import MAX_LOGPROB_TOKEN_IDS, RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from openchatkit.engines import recorded_steps
from openchatkit.engines.choice_tree import ChoiceTree, Tokens
from openchatkit.engines.detokenizer import REPLACEMENT
from openchatkit.engines.reply import FinishReason, ReplyAssembler
from openchatkit.engines.tokenizer import HuggingFaceTokenizer
from openchatkit.errors import EngineFailed, OpenChatKitError, OutOfMemory
from openchatkit.ports import Chunk, SamplingParameters
from openchatkit.tasks import all_of

logger = logging.getLogger(__name__)

NGRAM_TOKENS = 8
"""Tokens that are guessed at once: about half a sentence of a quoted passage."""
NGRAM_LONGEST, NGRAM_SHORTEST = 4, 2
"""Tokens at the text's end that are looked for in what came before."""

WATCH_S = 1.0
"""Between two looks at whether vLLM's process is there."""
CLOSE_TIMEOUT_S = 5.0
"""How long vLLM may take to answer before it is ended without waiting for it."""

ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # This process has threads, PyTorch's and the event loop's: a forked child may inherit a held lock.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}
"""Set where the environment does not say otherwise, before the first engine."""

_OUT_OF_MEMORY = re.compile(r"OutOfMemoryError|out of memory", re.IGNORECASE)
"""In the text of an error: what was raised in vLLM's process loses its type on the way. No prompt can
stand there: vLLM gets tokens alone."""
_FINISH_REASONS: Mapping[str, FinishReason] = {"stop": "stop", "length": "length", "abort": "cancelled"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmOptions:
    """How vLLM runs a model."""

    revision: str | None = None
    """Commit of a hub id."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"]
    tensor_parallel_degree: int
    """GPUs that share each layer."""
    memory_share: float
    """Of each GPU's memory, for weights, activations and the cache together."""
    max_concurrent_requests: int
    max_model_len: int | None = None
    """Most tokens of a prompt and its reply together; None: what the model was made for."""
    prefix_caching: bool = True
    quantization: Literal["fp8"] | None = None
    """Of the weights while they load, from a checkpoint that is not quantised."""
    speculation: Literal["ngram"] | None = None
    """`ngram`: the text so far is searched for the last tokens, and what followed them is guessed."""
    recorded_steps: bool = False
    """Record whole steps as CUDA graphs, those of prompts too, for a model that only scores
    (`recorded_steps.py`). Where there is no CUDA, no prefix cache or no compilation, nothing is recorded."""
    compiled: bool = True
    """Compile the model and record CUDA graphs: a minute more to load, for tests not worth it."""


class VllmEngine:
    """`ports.Engine` on vLLM."""

    def __init__(self, engine: AsyncLLM, *, on_death: Callable[[], None] | None = None) -> None:
        self._engine = engine
        self._on_death = on_death
        self._death = threading.Lock()
        self._tokenizer = HuggingFaceTokenizer(engine.get_tokenizer())
        self._context_length: int = engine.vllm_config.model_config.max_model_len
        self._running: dict[str, list[_Running]] = {}
        self._numbers = itertools.count()
        compilation = engine.vllm_config.compilation_config
        whole = compilation.cudagraph_mode == CUDAGraphMode.FULL
        self._largest_step: int = (compilation.max_cudagraph_capture_size or 0) if whole else 0
        self._steps: Literal["right", "wrong", "unproven"] = "unproven" if self._largest_step else "right"
        self._proving = asyncio.Lock()
        self._closed = False
        self._closing = asyncio.Lock()

    @classmethod
    def load(
        cls, model: str, options: VllmOptions, *, on_death: Callable[[], None] | None = None
    ) -> VllmEngine:
        """Load a model and start its processes. Blocks, for minutes with a large one.

        Args:
            model: a directory with a causal language model in safetensors, or a hub id.
            options: how to run it.
            on_death: called once, soon after vLLM's process has ended, from any thread: no request can
                be answered any more.

        Raises:
            EngineFailed: the model is not there, does not fit, or is not one that vLLM can run.
        """
        prepare_environment()
        try:
            engine = cls(AsyncLLM.from_engine_args(engine_arguments(model, options)), on_death=on_death)
        except Exception as error:  # each of its parts fails in a way of its own
            raise EngineFailed(f"vLLM cannot run {model}; its own log says why") from error
        logger.info(
            "vllm's cache holds %d tokens, %.1f conversations of full length (%d tokens) at once",
            engine.cache_tokens,
            engine.cache_tokens / engine.context_length,
            engine.context_length,
        )
        if on_death is not None:
            threading.Thread(target=engine._watch, name="vllm-watch", daemon=True).start()
        return engine

    def _watch(self) -> None:
        """Notice that vLLM's process has ended while nobody asks for anything. A thread's."""
        while not self._closed:
            if self._engine.errored:
                self._died()
                return
            time.sleep(WATCH_S)

    @property
    def tokenizer(self) -> HuggingFaceTokenizer:
        """The tokenizer of the model."""
        return self._tokenizer

    @property
    def context_length(self) -> int:
        """Most tokens of a prompt and its reply together."""
        return self._context_length

    @property
    def async_llm(self) -> AsyncLLM:
        """The engine as vLLM has it, to be measured by itself."""
        return self._engine

    @property
    def cache_tokens(self) -> int:
        """Tokens whose keys and values fit the GPUs, those of all requests together."""
        cache = self._engine.vllm_config.cache_config
        return int((cache.num_gpu_blocks or 0) * cache.block_size)

    @property
    def active_requests(self) -> int:
        """Replies that are being computed or wait for it."""
        return sum(map(len, self._running.values()))

    async def generate(
        self, prompt: str, parameters: SamplingParameters, request_id: str
    ) -> AsyncGenerator[Chunk, None]:
        """Yield the reply in chunks; see `ports.Engine.generate`."""
        request = _Running()
        self._running.setdefault(request_id, []).append(request)
        try:
            tokens = self._checked(self._tokenizer.encode(prompt), new_tokens=1)
            room = self._context_length - len(tokens)
            asked = sampling_params(parameters, max_tokens=min(parameters.max_new_tokens, room))
            assembler = ReplyAssembler(parameters.stop)
            async with contextlib.aclosing(self._outputs(tokens, asked, request_id)) as outputs:
                async for output in outputs:
                    chunk = self._chunk(assembler, output.outputs[0], request)
                    if chunk is None:
                        continue
                    yield chunk
                    if chunk.finish_reason is not None:
                        return
            raise EngineFailed("vLLM broke off the reply")
        finally:
            self._forget(request_id, request)

    def _chunk(
        self, assembler: ReplyAssembler, completion: CompletionOutput, request: _Running
    ) -> Chunk | None:
        """Return what one of vLLM's outputs makes; several tokens where we were slower than it."""
        ended: FinishReason | None = None
        if completion.finish_reason is not None:
            if completion.finish_reason not in _FINISH_REASONS:
                raise EngineFailed("the model failed while it computed the reply")
            ended = _FINISH_REASONS[completion.finish_reason]
        if request.cancelled:
            # It may have come before vLLM knew the request.
            ended = "cancelled"
        if ended == "cancelled" and self._closed:
            raise EngineFailed("the engine was closed")
        return assembler.push(completion.text.replace(REPLACEMENT, ""), len(completion.token_ids), ended)

    async def score(self, prompt: str, choices: Sequence[str]) -> list[float]:
        """Return the probability of each choice; see `ports.Engine.score`.

        Each question that the choices raise (for the five labels: what follows the prompt, and what
        follows ` needs`) is a request of its own, all of them in one and the same step: of the prompt
        they share all but the last block of the cache, and a step more would cost far more than that.

        Raises:
            EngineFailed, OutOfMemory: the model could not go on.
        """
        if not choices:
            return []
        if self._steps != "right":
            await self._prove_steps()
        tokens = self._tokenizer.encode(prompt)
        continuations = [self._tokenizer.encode_continuation(prompt, choice) for choice in choices]
        if not all(continuations):
            raise EngineFailed("the prompt or a choice is empty")
        tokens = self._checked(tokens, new_tokens=max(map(len, continuations)))
        tree = ChoiceTree(continuations)
        parts = [
            (begun, following[start : start + MAX_LOGPROB_TOKEN_IDS])
            for begun, following in tree.questions.items()
            for start in range(0, len(following), MAX_LOGPROB_TOKEN_IDS)
        ]
        told = await all_of(self._likelihoods([*tokens, *begun], part) for begun, part in parts)
        answers: dict[Tokens, dict[int, float]] = {begun: {} for begun in tree.questions}
        for (begun, _), likelihoods in zip(parts, told, strict=True):
            answers[begun] |= likelihoods
        try:
            return tree.probabilities(answers)
        except ValueError as error:
            raise EngineFailed("the model failed while it scored") from error

    async def _prove_steps(self) -> None:
        """Compare recorded steps with plain ones, once; a second or so.

        Raises:
            EngineFailed: they differ. Nothing is ever scored then.
        """
        async with self._proving:
            if self._steps == "unproven":
                difference = await recorded_steps.largest_difference(
                    self._likelihoods,
                    self._forget_prefixes,
                    largest=self._largest_step,
                    context_length=self._context_length,
                    vocabulary=self._engine.vllm_config.model_config.get_vocab_size(),
                )
                self._steps = "right" if difference <= recorded_steps.TOLERANCE else "wrong"
                told = "event=recorded_steps %s: CUDA graphs differ from plain steps by %.3f nats"
                level = logging.INFO if self._steps == "right" else logging.CRITICAL
                logger.log(level, told, self._steps, difference)
        if self._steps == "wrong":
            raise EngineFailed(
                "the judge's recorded steps are wrong; moderation_recorded_steps is their switch"
            )

    async def _forget_prefixes(self) -> None:
        """Empty the prefix cache."""
        for _ in range(100):
            if await self._engine.reset_prefix_cache():
                return
            await asyncio.sleep(0.01)  # the last request's blocks are being freed
        raise EngineFailed("vLLM does not empty its prefix cache")

    async def _likelihoods(self, tokens: list[int], following: list[int]) -> dict[int, float]:
        """Return the log-probability of each token that may follow; at most `MAX_LOGPROB_TOKEN_IDS`."""
        parameters = SamplingParams(
            temperature=0.0,
            max_tokens=1,
            logprob_token_ids=following,
            detokenize=False,
            ignore_eos=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        outputs = self._outputs(tokens, parameters, f"score-{next(self._numbers)}")
        async with contextlib.aclosing(outputs):
            async for output in outputs:
                for position in output.outputs[0].logprobs or ():
                    return {token: position[token].logprob for token in following}
        raise EngineFailed("the engine was closed" if self._closed else "vLLM broke off a score")

    async def _outputs(
        self, tokens: list[int], asked: SamplingParams, request_id: str
    ) -> AsyncGenerator[RequestOutput, None]:
        """Yield vLLM's outputs, errors as ours; closing it frees the request."""
        if self._closed:
            raise EngineFailed("the engine is closed")
        try:
            stream = self._engine.generate(tokens_input(tokens), asked, request_id)
            async with contextlib.aclosing(stream):
                async for output in stream:
                    yield output
        except Exception as error:  # noqa: BLE001 - whatever vLLM fails with, the caller gets a code
            raise self._as_ours(error) from error.with_traceback(None)

    def _as_ours(self, error: Exception) -> OpenChatKitError:
        if self._closed:
            return EngineFailed("the engine was closed")
        chain = _chain(error)
        dead = any(isinstance(each, EngineDeadError) for each in chain)
        if dead:
            self._died()
        if any(map(_out_of_memory, chain)):
            return OutOfMemory("the accelerator has no memory left for this request")
        if dead:
            return EngineFailed("the model's process has ended")
        return EngineFailed("the model failed while it computed the reply")

    def _died(self) -> None:
        """Say once that vLLM's process is gone, in the log and to the host."""
        if self._closed or not self._death.acquire(blocking=False):
            return
        logger.critical("event=engine_dead vllm's process has ended; this one cannot answer any more")
        if self._on_death is not None:
            self._on_death()

    def _checked(self, tokens: list[int], *, new_tokens: int) -> list[int]:
        if not tokens:
            raise EngineFailed("the prompt is empty")
        if len(tokens) + new_tokens > self._context_length:
            raise EngineFailed(f"the prompt fills the model's context of {self._context_length} tokens")
        return tokens

    def _forget(self, request_id: str, request: _Running) -> None:
        requests = self._running[request_id]
        requests.remove(request)
        if not requests:
            del self._running[request_id]

    async def abort(self, request_id: str) -> None:
        """Stop a request before its next token; its stream ends with `cancelled`."""
        for request in self._running.get(request_id, ()):
            request.cancelled = True
        if request_id in self._running and not self._closed:
            try:
                await self._engine.abort(request_id)
            except EngineDeadError:
                self._died()

    async def close(self) -> None:
        """End vLLM's processes. Requests that are pending fail with `EngineFailed`."""
        async with self._closing:
            if self._closed:
                return
            # The first request of all asks vLLM something before vLLM knows it; it is let through.
            with contextlib.suppress(EngineDeadError, TimeoutError):
                await asyncio.wait_for(self._engine.get_supported_tasks(), CLOSE_TIMEOUT_S)
            self._closed = True
            pending = list(self._engine.output_processor.request_states)
            with contextlib.suppress(EngineDeadError):
                await self._engine.abort(pending, internal=True)
            await asyncio.to_thread(self._engine.shutdown)


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error, what caused it, and so on; such a chain may lead back into itself."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return chain


def _out_of_memory(error: BaseException) -> bool:
    told = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return told or _OUT_OF_MEMORY.search(str(error)) is not None


def prepare_environment() -> None:
    """Set what vLLM reads from the environment, where it says nothing. Before the first engine."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@dataclass(slots=True, eq=False)
class _Running:
    """A reply that has been asked for."""

    cancelled: bool = False


def engine_arguments(model: str, options: VllmOptions) -> AsyncEngineArgs:
    """Return vLLM's own arguments for a model."""
    speculative = {
        "method": "ngram",
        "num_speculative_tokens": NGRAM_TOKENS,
        "prompt_lookup_max": NGRAM_LONGEST,
        "prompt_lookup_min": NGRAM_SHORTEST,
    }
    arguments = AsyncEngineArgs(
        model=model,
        revision=None if Path(model).is_dir() else options.revision,
        tokenizer_revision=None if Path(model).is_dir() else options.revision,
        dtype=options.dtype,
        load_format="safetensors",
        trust_remote_code=False,
        tensor_parallel_size=options.tensor_parallel_degree,
        gpu_memory_utilization=options.memory_share,
        max_model_len=options.max_model_len,
        max_num_seqs=options.max_concurrent_requests,
        enable_prefix_caching=options.prefix_caching,
        enable_chunked_prefill=True,
        quantization=options.quantization,
        speculative_config=speculative if options.speculation == "ngram" else None,
        enforce_eager=not options.compiled,
        # Of requests without a seed: two endpoints, or two starts, are not to say the same.
        seed=secrets.randbelow(2**31),
        enable_log_requests=False,
        disable_log_stats=True,
    )
    recordable = options.compiled and options.prefix_caching
    if not (options.recorded_steps and recordable and current_platform.is_cuda()):
        return arguments
    context_length = arguments.create_model_config().max_model_len
    return replace(arguments, **recorded_steps.arguments(context_length))


def sampling_params(parameters: SamplingParameters, *, max_tokens: int) -> SamplingParams:
    """Return a request's parameters in vLLM's terms.

    Stop words are not among them: vLLM's own hold back a fixed number of characters, and which of two
    words ends a reply depends on how its text was cut.
    """
    return SamplingParams(
        temperature=parameters.temperature,
        top_k=parameters.top_k,
        top_p=parameters.top_p,
        repetition_penalty=parameters.repetition_penalty,
        max_tokens=max_tokens,
        seed=parameters.seed,
        output_kind=RequestOutputKind.DELTA,
        skip_clone=True,  # it is this request's alone
    )
