"""What is measured, a part each. Each part loads its models once and lets go of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from bench.gpu.engines import (
    Alone,
    Backend,
    Plan,
    forget_prefixes,
    load_engine,
    make_engine,
    opened,
)
from bench.gpu.figures import Recorder
from bench.gpu.load import Load, closed_loop, quantile
from bench.gpu.shapes import CHAT, JUDGE, ROOT, TINY_CHAT, TINY_JUDGE, Shape, Texts, tokenizer_of
from bench.gpu.tiled import write_tiled
from bench.gpu.turns import RandomLibrary, WholeTurns, minilm, query_cost, whole_turns
from openchatkit import prompt as prompts
from openchatkit.moderation.label_scorer import LabelScorer
from openchatkit.ports import Engine, SamplingParameters

IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where SQLite's file is: how long a disk takes for a commit is its own affair."""
DEMO_MODEL = ROOT / "local" / "demo_model"
MOST_REQUESTS = 512
CHAT_SHARE, JUDGE_SHARE = 0.62, 0.25
PROMPT = 512
JUDGED_WORDS = 20
JUDGED_TOGETHER = (1, 8, 64)
NOT_JUDGED = (1, 64)
"""Clients that ask without moderation too, so that its cost can be told."""
QUOTED_TOKENS = 128
"""At most; the model ends its answers by itself."""
TURNS = 8
TURN_WORDS = 60
"""Of each question; with more of them the last turns would not fit the context and push out the first."""


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    backend: Backend
    chat: Shape
    judge: Shape
    clients: Sequence[int]
    other_prompts: Sequence[int]
    """Tokens of further prompts, asked by the two smallest numbers of clients."""
    rounds: int
    """Requests of each client, where there are many; one client alone has `single`."""
    single: int
    warm_up: int
    """Clients that ask once before anything is measured."""
    reply_tokens: int
    vectors: int
    copy_bytes: int
    tiles: int
    tiled_layers: int
    conversations: int
    quoted: int
    """Questions whose answers quote a passage."""
    judged: int
    """How often judgements are asked for together."""
    device: str
    compiled: bool
    dtype: Literal["float16", "float32"]
    judge_quantization: Literal["fp8"] | None = None
    moderation_input: Literal["before", "beside"] = "before"
    folder: Path | None = None
    """Of the models' configurations; vLLM finds what it compiled for them again where it stays the same."""

    def plan(self, share: float) -> Plan:
        """Return how an engine is made at this scale."""
        return Plan(backend=self.backend, memory_share=share, compiled=self.compiled, dtype=self.dtype)

    def requests(self, clients: int) -> int:
        """Return how many requests make a run."""
        return max(min(clients * self.rounds, MOST_REQUESTS), self.single)


FULL = Scale(
    backend="vllm",
    chat=CHAT,
    judge=JUDGE,
    clients=(1, 16, 64, 256),
    other_prompts=(256, 1536),
    rounds=3,
    single=6,
    warm_up=64,
    reply_tokens=128,
    vectors=1_000_000,
    copy_bytes=1 << 32,
    tiles=12,
    tiled_layers=28,
    conversations=2,
    quoted=12,
    judged=15,
    device="cuda",
    compiled=True,
    dtype="float16",
)
QUICK = replace(FULL, clients=(1, 64), rounds=2, conversations=1)
DRY = Scale(
    backend="transformers",
    chat=TINY_CHAT,
    judge=TINY_JUDGE,
    clients=(1, 2),
    other_prompts=(256, 1536),
    rounds=1,
    single=2,
    warm_up=2,
    reply_tokens=24,
    vectors=2_000,
    copy_bytes=1 << 20,
    tiles=2,
    tiled_layers=11,
    conversations=1,
    quoted=2,
    judged=3,
    device="cpu",
    compiled=False,
    dtype="float32",
)


async def roofline(scale: Scale, record: Recorder) -> None:
    """What memory bandwidth allows one client: every weight is read for every token."""
    source = torch.empty(scale.copy_bytes, dtype=torch.uint8, device=scale.device)
    target = torch.empty_like(source)
    times = []
    for _ in range(10):
        _synchronise(scale)
        began = time.perf_counter()
        target.copy_(source)
        _synchronise(scale)
        times.append(time.perf_counter() - began)
    bandwidth = 2 * scale.copy_bytes / min(times)
    for weights, width in (("fp16", 2), ("8 bit", 1)):
        record.add(
            "roofline",
            weights,
            copy_tb_per_s=bandwidth / 1e12,
            weights_gb=scale.chat.parameters * width / 1e9,
            tokens_per_s=bandwidth / (scale.chat.parameters * width),
        )
    del source, target
    _let_go(scale)


async def seed(scale: Scale, record: Recorder) -> None:
    """The seed's way: `generate` of transformers, one request after the other."""
    with torch.device(scale.device):
        model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            scale.chat.config(), dtype=getattr(torch, scale.dtype)
        )
    model.train(False)
    tokenizer = tokenizer_of(scale.chat.vocabulary)
    walls = []
    for number in range(3):
        tokens = torch.tensor([Texts(number).prompt(PROMPT, tokenizer)], device=scale.device)
        began = time.perf_counter()
        made = await asyncio.to_thread(
            model.generate,
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=scale.reply_tokens,
            do_sample=True,
            temperature=0.6,
            top_k=40,
            pad_token_id=0,
        )
        walls.append(time.perf_counter() - began)
        assert made.shape[1] == PROMPT + scale.reply_tokens
    wall = statistics.median(walls[1:])
    record.add("seed", "generate", tokens_per_s=scale.reply_tokens / wall, wall_s=wall)
    del model
    _let_go(scale)


async def fp16(
    scale: Scale, record: Recorder, wanted: Sequence[str] = ("vllm", "turn", "conversation")
) -> None:
    """The chat model alone, the whole turn beside it, and conversations, on one pair of loaded models."""
    async with _models(scale, record, None, judge="turn" in wanted or "conversation" in wanted) as loaded:
        if "vllm" in wanted:
            await _alone(scale, record, "fp16", loaded, scale.clients, scale.other_prompts)
        if loaded.turns is not None and "turn" in wanted:
            await _turns(scale, record, "fp16", loaded.turns, scale.clients, scale.other_prompts)
        if loaded.turns is not None and "conversation" in wanted:
            await _conversations(scale, record, loaded.chat, loaded.turns)


async def fp8(scale: Scale, record: Recorder) -> None:
    """The same with 8-bit weights, at 1 and 64 clients."""
    clients = [number for number in scale.clients if number in (1, 64)]
    async with _models(scale, record, "fp8", judge=True) as loaded:
        await _alone(scale, record, "fp8", loaded, clients, ())
        assert loaded.turns is not None
        await _turns(scale, record, "fp8", loaded.turns, clients, ())


async def judge(scale: Scale, record: Recorder) -> None:
    """The judge with the GPU to itself: how long judgements take that are asked for at the same time."""
    with tempfile.TemporaryDirectory() as temporary:
        async with opened(lambda: _make_judge(scale, scale.folder or Path(temporary))) as engine:
            scorer = LabelScorer(engine)
            texts = (Texts(number).words(JUDGED_WORDS) for number in itertools.count())
            for together in JUDGED_TOGETHER:
                walls = []
                for _ in range(scale.judged):
                    began = time.perf_counter()
                    await asyncio.gather(*(scorer.judge(text) for text in itertools.islice(texts, together)))
                    walls.append(time.perf_counter() - began)
                # The first ones compile kernels.
                record.add(
                    "judge", "alone", together=together, wall_p50_s=quantile(walls[len(walls) // 3 :], 0.5)
                )


async def ngram(scale: Scale, record: Recorder) -> None:
    """Answers that quote their passages, with and without speculation, one client, greedy."""
    with tempfile.TemporaryDirectory() as folder:
        model = await asyncio.to_thread(
            write_tiled, DEMO_MODEL, Path(folder), tiles=scale.tiles, layers=scale.tiled_layers
        )
        size = sum(path.stat().st_size for path in model.glob("*.safetensors"))
        record.say(f"the demonstration model, {scale.tiles} times side by side: {size / 1e9:.1f} GB")
        said: dict[str, list[str]] = {}
        for name, speculation in (("plain", None), ("speculating", "ngram")):
            plan = replace(scale.plan(0.5), max_concurrent_requests=16)
            # vLLM 0.23.0's build for CPUs stumbles over a keyword of its own sampler here.
            if speculation == "ngram" and scale.device == "cuda":
                plan = replace(plan, speculation="ngram")
            async with opened(lambda plan=plan: load_engine(model, plan)) as engine:  # type: ignore[misc]
                said[name], figures = await _quoted(engine, scale.quoted)
            record.add("ngram", name, model_gb=size / 1e9, **figures)
        same = sum(a == b for a, b in zip(said["plain"], said["speculating"], strict=True))
        record.add("ngram", "equal replies", equal=same, of=len(said["plain"]))


@dataclass(frozen=True)
class _Loaded:
    chat: Engine
    tokenizer: PreTrainedTokenizerFast
    turns: WholeTurns | None


@contextlib.asynccontextmanager
async def _models(
    scale: Scale, record: Recorder, quantization: Literal["fp8"] | None, *, judge: bool
) -> AsyncGenerator[_Loaded, None]:
    """Load the chat model, and with `judge` all that a whole turn needs."""
    async with contextlib.AsyncExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kept = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=IN_MEMORY)))
        folder = scale.folder or temporary
        # Models load in processes of their own: the index is made beside them.
        indexing = asyncio.create_task(asyncio.to_thread(_timed_library, scale.vectors)) if judge else None
        plan = scale.plan(CHAT_SHARE)
        if scale.device == "cuda":
            plan = replace(plan, quantization=quantization)
        began = time.monotonic()
        chat = await stack.enter_async_context(opened(lambda: make_engine(scale.chat, folder / "chat", plan)))
        record.say(f"the chat model took {time.monotonic() - began:.0f} s to load; {_room(chat)}")
        tokenizer = tokenizer_of(scale.chat.vocabulary)
        if indexing is None:
            yield _Loaded(chat, tokenizer, None)
            return
        began = time.monotonic()
        judging = await stack.enter_async_context(opened(lambda: _make_judge(scale, folder)))
        record.say(f"the judge took {time.monotonic() - began:.0f} s to load; {_room(judging)}")
        library, build_s = await indexing
        encoder = await asyncio.to_thread(minilm, scale.chat.vocabulary)
        encode, search = await asyncio.to_thread(query_cost, encoder, library)
        record.add("retrieval", f"{scale.vectors} vectors", build_s=build_s, encode_s=encode, search_s=search)
        turns = await stack.enter_async_context(
            whole_turns(chat, judging, kept, library, encoder, scale.reply_tokens, scale.moderation_input)
        )
        yield _Loaded(chat, tokenizer, turns)


def _make_judge(scale: Scale, folder: Path) -> Engine:
    plan = replace(scale.plan(JUDGE_SHARE), quantization=scale.judge_quantization, recorded_steps=True)
    return make_engine(scale.judge, folder / "judge", plan)


def _timed_library(vectors: int) -> tuple[RandomLibrary, float]:
    began = time.monotonic()
    return RandomLibrary(vectors), time.monotonic() - began


def _room(engine: Engine) -> str:
    tokens = getattr(engine, "cache_tokens", None)
    return "no cache of its own" if tokens is None else f"its cache holds {tokens} tokens"


async def _alone(
    scale: Scale, record: Recorder, part: str, loaded: _Loaded, clients: Sequence[int], others: Sequence[int]
) -> None:
    alone = Alone(loaded.chat, loaded.tokenizer, scale.backend, scale.reply_tokens)

    async def run(number_of: int, prompt: int, salt: int, requests: int | None = None) -> Load:
        made = [
            Texts(salt + number).prompt(prompt, loaded.tokenizer)
            for number in range(requests or scale.requests(number_of))
        ]
        return await closed_loop(number_of, len(made), lambda number: alone.ask(made[number]))

    # Some kernels are compiled when a batch first asks for them.
    for number_of in (1, scale.warm_up):
        await run(number_of, PROMPT, 10**6 * (1 + number_of), number_of)
    for number_of in clients:
        load = await run(number_of, PROMPT, 1000 * number_of)
        record.add(part, "alone", clients=number_of, prompt=PROMPT, **load.figures())
    for prompt in others:
        for number_of in clients[:2]:
            load = await run(number_of, prompt, 1000 * number_of + prompt)
            record.add(part, "alone", clients=number_of, prompt=prompt, **load.figures())


async def _turns(
    scale: Scale,
    record: Recorder,
    part: str,
    turns: WholeTurns,
    clients: Sequence[int],
    others: Sequence[int],
) -> None:
    for prompt in (PROMPT, *others):
        await turns.fit(prompt)
        if prompt == PROMPT:
            await closed_loop(scale.warm_up, scale.warm_up, lambda number: turns.ask(10**8 + number))
        for number_of in clients if prompt == PROMPT else clients[:2]:
            for judged in (True, False) if number_of in NOT_JUDGED else (True,):
                turns.judged = judged
                turns.judge.seconds.clear()
                salt = 10_000 * number_of + prompt + 10**6 * judged
                load = await closed_loop(
                    number_of,
                    scale.requests(number_of),
                    lambda number, salt=salt: turns.ask(salt + number),  # type: ignore[misc]
                )
                record.add(
                    part,
                    "turn" if judged else "not judged",
                    clients=number_of,
                    prompt=prompt,
                    **load.figures(),
                    judgements=len(turns.judge.seconds) / len(load.samples),
                    judgement_p50_s=quantile(turns.judge.seconds or [0.0], 0.5),
                )
            turns.judged = True


async def _conversations(scale: Scale, record: Recorder, chat: Engine, turns: WholeTurns) -> None:
    """First tokens of each turn of conversations, with the chat model's prefix cache and without."""
    await turns.fit(None)
    for name, caching in (("with caching", True), ("without caching", False)):
        by_turn: dict[int, list[tuple[float, int]]] = {}
        for conversation in range(scale.conversations):
            session_id = None
            for turn in range(1, TURNS + 1):
                if not caching and not await forget_prefixes(chat, scale.backend):
                    record.say("the prefix cache could not be emptied")
                question = Texts(10**7 + 1000 * conversation + 100 * caching + turn).words(TURN_WORDS)
                sample, session_id = await turns.turn(question, session_id)
                by_turn.setdefault(turn, []).append((sample.first_token, sample.prompt_tokens))
        for turn, firsts in by_turn.items():
            record.add(
                "conversation",
                name,
                turn=turn,
                first_token_p50_s=statistics.median(first for first, _ in firsts),
                prompt_tokens=round(statistics.median(tokens for _, tokens in firsts)),
            )


def quoting_prompt(number: int) -> str:
    """Return a prompt in the demonstration model's format whose answer is one of its sentences."""
    names = ["Aldermoor Freight", "Brightwater Foods", "Castellan Steel", "Dunmore Energy", "Elmfield Retail"]
    first = number % len(names)
    passages = [
        _Text(
            f"{name} annual report",
            f"{name} earned {310 + 37 * number + place} million euros in 2025 after {280 + place} million "
            "the year before, as demand in its home market and in the regions around grew faster than costs.",
        )
        for place, name in enumerate(names[first:] + names[:first])
    ]
    question = f"What did {names[first]} earn?"
    return prompts.render_prompt(
        question, preamble=prompts.DEFAULT_PREAMBLE, history=(), passages=passages[:3]
    )


@dataclass(frozen=True)
class _Text:
    title: str
    text: str
    date: str | None = None
    place: str | None = None


async def _quoted(engine: Engine, questions: int) -> tuple[list[str], dict[str, float | int]]:
    asked = SamplingParameters(0.0, 0, 1.0, QUOTED_TOKENS, 1.0, prompts.STOP_WORDS)
    replies, tokens, seconds, steps = [], 0, 0.0, 0
    for number in range(-2, questions):
        began = time.perf_counter()
        first, text, made, chunks = 0.0, "", 0, 0
        async for chunk in engine.generate(quoting_prompt(max(number, 0)), asked, f"quoted-{number}"):
            text, chunks = text + chunk.text, chunks + 1
            if first:
                made += chunk.tokens
            first = first or time.perf_counter() - began
        if number < 0:
            continue  # warm-up
        replies.append(text)
        tokens, seconds, steps = tokens + made, seconds + time.perf_counter() - began - first, steps + chunks
    return replies, {"decode_tokens_per_s": tokens / seconds, "tokens": tokens, "chunks": steps}


def _synchronise(scale: Scale) -> None:
    if scale.device == "cuda":
        torch.cuda.synchronize()


def _let_go(scale: Scale) -> None:
    gc.collect()
    if scale.device == "cuda":
        torch.cuda.empty_cache()
