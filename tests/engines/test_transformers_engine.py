from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from openchatkit.engines.transformers_engine import PREFILL_TOKENS_CPU, TransformersEngine
from openchatkit.errors import EngineFailed, OutOfMemory
from openchatkit.ports import Chunk, SamplingParameters
from tests.engines.models import (
    ARCHITECTURES,
    VOCABULARY,
    before_forward,
    choice_probabilities,
    parameters,
    tiny_model,
    tiny_tokenizer,
)

MakeEngine = Callable[..., TransformersEngine]

PROMPTS = [
    "Revenue of Aldermoor",
    "<human>: What did the company earn?\n<bot>:",
    "Die Erträge stiegen — trotz höherer Zinsen — um 7 %. " * 8,
    "売上高",
    "a",
    "It earned 310 million euros [1].",
]
LONG_PROMPT = "<human>: What did " * 40


async def collect(
    engine: TransformersEngine, prompt: str, asked: SamplingParameters, request_id: str = "r"
) -> list[Chunk]:
    return [chunk async for chunk in engine.generate(prompt, asked, request_id)]


async def reply(
    engine: TransformersEngine, prompt: str, asked: SamplingParameters, request_id: str = "r"
) -> str:
    return "".join(chunk.text for chunk in await collect(engine, prompt, asked, request_id))


def generated_by_transformers(model: PreTrainedModel, prompt: str, **options: object) -> str:
    """Return what `model.generate` writes, the plain way."""
    tokenizer = tiny_tokenizer()
    inputs = tokenizer(prompt, return_tensors="pt")
    tokens = model.generate(**inputs, do_sample=False, pad_token_id=0, **options)  # type: ignore[operator]
    start = len(tokenizer.decode(inputs["input_ids"][0]))
    text = tokenizer.decode(tokens[0], skip_special_tokens=True)
    assert isinstance(text, str)
    return text[start:].replace("\ufffd", "")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("penalty", [1.0, 1.2])
async def test_greedy_text_is_that_of_generate_alone_and_in_a_mixed_batch(
    make_engine: MakeEngine, architecture: str, penalty: float
) -> None:
    engine = make_engine(architecture, max_concurrent_requests=4)
    lengths = [30, 60, 45, 12, 80, 50]
    expected = [
        generated_by_transformers(
            tiny_model(architecture), prompt, max_new_tokens=length, repetition_penalty=penalty
        )
        for prompt, length in zip(PROMPTS, lengths, strict=True)
    ]
    asked = [parameters(max_new_tokens=length, repetition_penalty=penalty) for length in lengths]

    async def late(number: int) -> str:
        await asyncio.sleep(0.01 * number)
        return await reply(engine, PROMPTS[number], asked[number], f"r{number}")

    alone = [await reply(engine, prompt, each) for prompt, each in zip(PROMPTS, asked, strict=True)]
    assert alone == expected
    assert await asyncio.gather(*map(late, range(len(PROMPTS)))) == expected


async def test_a_reply_of_many_windows_of_the_cache_is_that_of_generate(make_engine: MakeEngine) -> None:
    expected = generated_by_transformers(tiny_model("gpt_neox"), "Revenue", max_new_tokens=400)
    text = await reply(make_engine(), "Revenue", parameters(max_new_tokens=400))
    assert text == expected


async def test_the_end_of_text_ends_a_reply(make_engine: MakeEngine) -> None:
    model = tiny_model("gpt_neox")
    inputs = tiny_tokenizer()("Revenue of", return_tensors="pt")
    tokens = model.generate(**inputs, do_sample=False, max_new_tokens=9, pad_token_id=0)  # type: ignore[operator]
    said = tokens[0, inputs["input_ids"].shape[1] :].tolist()
    assert model.generation_config is not None
    usual = model.generation_config.eos_token_id
    # A token that the greedy text holds becomes an end of text.
    model.generation_config.eos_token_id = [VOCABULARY - 1, said[-1]]
    try:
        got = await collect(make_engine(), "Revenue of", parameters(max_new_tokens=50))
    finally:
        model.generation_config.eos_token_id = usual
    assert got[-1].finish_reason == "stop"
    assert sum(chunk.tokens for chunk in got) == said.index(said[-1]) + 1


async def test_no_more_requests_than_slots_are_computed_at_once(make_engine: MakeEngine) -> None:
    engine = make_engine(max_concurrent_requests=3)
    rows: list[int] = []
    active: list[int] = []

    def watch(count: int) -> None:
        rows.append(count)
        active.append(engine.active_requests)

    with before_forward(tiny_model("gpt_neox"), watch):
        await asyncio.gather(
            *(reply(engine, "Revenue", parameters(max_new_tokens=30), f"r{number}") for number in range(8))
        )
    assert max(rows) == 3
    assert max(active) == 3
    assert engine.active_requests == 0


@pytest.mark.parametrize("way", ["abort", "aclose", "cancel"])
async def test_leaving_stops_the_computation_within_two_tokens(make_engine: MakeEngine, way: str) -> None:
    engine = make_engine()
    steps = 0

    def slow(_rows: int) -> None:
        nonlocal steps
        steps += 1
        time.sleep(0.01)

    async def consume(started: asyncio.Event) -> None:
        async with aclosing(engine.generate("Revenue", parameters(max_new_tokens=400), "r")) as stream:
            async for _ in stream:
                started.set()
                if way == "aclose":
                    return

    with before_forward(tiny_model("gpt_neox"), slow):
        started = asyncio.Event()
        task = asyncio.create_task(consume(started))
        await started.wait()
        if way == "abort":
            await engine.abort("r")
        elif way == "cancel":
            task.cancel()
        at = steps
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.1)
        assert steps <= at + 2
        assert engine.active_requests == 0


async def test_a_long_prompt_is_left_between_two_pieces(make_engine: MakeEngine) -> None:
    engine = make_engine(max_concurrent_requests=1)
    prompt = "é" * 225
    pieces = -(-engine.tokenizer.count(prompt) // PREFILL_TOKENS_CPU)
    assert pieces >= 3
    steps = 0

    def slow(_rows: int) -> None:
        nonlocal steps
        steps += 1
        time.sleep(0.05)

    with before_forward(tiny_model("gpt_neox"), slow):
        tasks = [
            asyncio.create_task(collect(engine, prompt, parameters(), f"r{number}")) for number in range(3)
        ]
        await asyncio.sleep(0.02)
        # One is in its prefill, the others wait for its slot.
        for number in range(3):
            await engine.abort(f"r{number}")
        ended = await asyncio.gather(*tasks)
    assert steps == 1
    assert ended == [[Chunk("", 0, "cancelled")]] * 3


async def test_running_replies_go_on_while_a_long_prompt_is_prefilled(make_engine: MakeEngine) -> None:
    engine = make_engine()
    tokens: list[int] = []
    model = tiny_model("gpt_neox")
    handle = model.register_forward_pre_hook(
        lambda _module, _arguments, named: tokens.append(named["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        running = asyncio.create_task(reply(engine, "Revenue", parameters(max_new_tokens=300), "running"))
        await asyncio.sleep(0.05)
        await reply(engine, "é" * 225, parameters(max_new_tokens=1), "long")
        await engine.abort("running")
        await running
    finally:
        handle.remove()
    pieces = [at for at, length in enumerate(tokens) if length > 1][1:]
    assert len(pieces) >= 3
    assert all(tokens[at + 1] == 1 for at in pieces[:-1])
    assert max(tokens) <= PREFILL_TOKENS_CPU


async def test_a_consumer_that_does_not_read_stalls_nobody(make_engine: MakeEngine) -> None:
    engine = make_engine()
    stream = engine.generate("Revenue", parameters(max_new_tokens=60), "slow")
    first = await anext(stream)
    await reply(engine, "Revenue of", parameters(max_new_tokens=200), "fast")
    rest = [chunk async for chunk in stream]
    assert sum(chunk.tokens for chunk in [first, *rest]) == 60


async def test_a_seed_gives_the_same_reply_in_any_company(make_engine: MakeEngine) -> None:
    engine = make_engine()
    seeded = parameters(temperature=1.0, top_k=20, seed=11, max_new_tokens=40)
    alone = await reply(engine, "Revenue", seeded)
    company = [
        reply(engine, prompt, parameters(temperature=1.0, top_k=20, max_new_tokens=40), prompt)
        for prompt in PROMPTS
    ]
    got = await asyncio.gather(reply(engine, "Revenue", seeded, "seeded"), *company)
    assert got[0] == alone
    assert alone != await reply(
        engine, "Revenue", parameters(temperature=1.0, top_k=20, seed=12, max_new_tokens=40)
    )


# --- failures --------------------------------------------------------------------------------


async def test_a_failed_step_ends_the_running_requests_and_the_engine_goes_on(
    make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine()

    def fail(rows: int) -> None:
        if rows == 3:
            raise RuntimeError("canary of a message that quotes a prompt")

    with before_forward(tiny_model("gpt_neox"), fail), caplog.at_level(logging.DEBUG):
        ended = await asyncio.gather(
            *(collect(engine, "canary", parameters(max_new_tokens=50), f"r{number}") for number in range(3)),
            return_exceptions=True,
        )
    assert [type(error) for error in ended] == [EngineFailed] * 3
    assert isinstance(ended[0], EngineFailed)
    assert isinstance(ended[0].__cause__, RuntimeError)
    assert "canary" not in str(ended[0])
    assert "canary" not in caplog.text
    assert "RuntimeError" in caplog.text
    assert engine.active_requests == 0
    assert await reply(engine, "Revenue", parameters())


async def test_a_failed_prefill_is_one_requests_trouble(make_engine: MakeEngine) -> None:
    engine = make_engine()
    expected = await reply(engine, "Revenue", parameters(max_new_tokens=100))
    model = tiny_model("gpt_neox")

    def fail(_module: object, _arguments: object, named: dict[str, torch.Tensor]) -> None:
        if named["input_ids"].shape[1] > 50:
            raise RuntimeError

    handle = model.register_forward_pre_hook(fail, with_kwargs=True)
    try:
        good, bad = await asyncio.gather(
            reply(engine, "Revenue", parameters(max_new_tokens=100), "good"),
            collect(engine, LONG_PROMPT, parameters(), "bad"),
            return_exceptions=True,
        )
    finally:
        handle.remove()
    assert good == expected
    assert isinstance(bad, EngineFailed)


async def test_memory_that_runs_out_in_a_prefill_costs_that_request(make_engine: MakeEngine) -> None:
    engine = make_engine()
    model = tiny_model("gpt_neox")

    def fail(_module: object, _arguments: object, named: dict[str, torch.Tensor]) -> None:
        if named["input_ids"].shape[1] > 50:
            raise torch.OutOfMemoryError

    handle = model.register_forward_pre_hook(fail, with_kwargs=True)
    try:
        with pytest.raises(OutOfMemory):
            await collect(engine, LONG_PROMPT, parameters())
        with pytest.raises(OutOfMemory):
            await engine.score(LONG_PROMPT, ["a", "b"])
    finally:
        handle.remove()
    assert engine.active_requests == 0


async def test_memory_that_runs_out_in_a_step_costs_the_youngest_request(make_engine: MakeEngine) -> None:
    engine = make_engine()
    asked = parameters(max_new_tokens=60)
    expected = await reply(engine, "Revenue", asked)

    def fail(rows: int) -> None:
        if rows > 1:
            raise torch.OutOfMemoryError

    with before_forward(tiny_model("gpt_neox"), fail):
        old = asyncio.create_task(reply(engine, "Revenue", asked, "old"))
        await asyncio.sleep(0.02)
        with pytest.raises(OutOfMemory):
            await reply(engine, "Revenue of", asked, "young")
        assert await old == expected


async def test_logits_that_are_not_numbers_fail(make_engine: MakeEngine) -> None:
    engine = make_engine()
    head = tiny_model("gpt_neox").get_output_embeddings()  # type: ignore[no-untyped-call]
    handle = head.register_forward_hook(lambda _module, _arguments, output: output * float("nan"))
    try:
        with pytest.raises(EngineFailed):
            await collect(engine, "Revenue", parameters())
        with pytest.raises(EngineFailed):
            await engine.score("Revenue", ["a", "b"])
    finally:
        handle.remove()


def test_a_model_that_cannot_run_fails_when_the_engine_is_made() -> None:
    def fail(_rows: int) -> None:
        raise RuntimeError

    model = tiny_model("gpt_neox")
    with before_forward(model, fail), pytest.raises(EngineFailed):
        TransformersEngine(model, tiny_tokenizer(), max_concurrent_requests=1)


# --- score -----------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
async def test_scores_are_the_normalised_likelihoods(make_engine: MakeEngine, architecture: str) -> None:
    engine, tokenizer, model = make_engine(architecture), tiny_tokenizer(), tiny_model(architecture)
    prompt = LONG_PROMPT[:200]
    choices = [" casual", "s", " needs caution", " possibly needs caution", "売上"]
    expected = choice_probabilities(model, tokenizer, prompt, choices)
    assert await engine.score(prompt, choices) == pytest.approx(expected, rel=1e-3)


async def test_scoring_is_one_pass_for_all_choices(make_engine: MakeEngine) -> None:
    engine = make_engine()
    rows: list[int] = []
    with before_forward(tiny_model("gpt_neox"), rows.append):
        await engine.score("Revenue", [" needs caution", " casual", " needs intervention"])
    assert rows == [1, 3]


async def test_a_choice_without_a_token_fails(make_engine: MakeEngine) -> None:
    with pytest.raises(EngineFailed):
        await make_engine().score("Revenue", ["a", ""])


async def test_no_choices_have_no_scores(make_engine: MakeEngine) -> None:
    assert await make_engine().score("Revenue", []) == []


# --- loading ---------------------------------------------------------------------------------


def load(directory: Path) -> TransformersEngine:
    return TransformersEngine.load(
        str(directory), revision=None, dtype="auto", device_map="cpu", max_concurrent_requests=2
    )


async def test_a_directory_is_loaded_in_float32_on_a_cpu(tmp_path: Path, make_engine: MakeEngine) -> None:
    tiny_model("gpt_neox").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    loaded = load(tmp_path)
    text = await reply(loaded, "Revenue", parameters())
    await loaded.close()
    assert text == await reply(make_engine(), "Revenue", parameters())


def test_weights_in_pickle_are_refused(tmp_path: Path) -> None:
    model = tiny_model("gpt_neox")
    model.config.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(EngineFailed, match="safetensors"):
        load(tmp_path)


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed):
        load(tmp_path)
