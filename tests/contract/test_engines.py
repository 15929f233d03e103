"""What every engine does, whatever computes: the contract of `ports.Engine`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import pytest_asyncio
import torch
from transformers import PreTrainedModel

from openchatkit.engines.transformers_engine import TransformersEngine
from openchatkit.errors import EngineFailed
from openchatkit.ports import Chunk, Engine, SamplingParameters
from tests.engines.models import choice_probabilities, parameters, tiny_model, tiny_tokenizer

PROMPT = "<human>: What did the company earn?\n<bot>:"
PROMPTS = [
    PROMPT,
    "Revenue of",
    "Die Erträge stiegen — trotz",
    "売上高は",
    "It earned 310 million euros [1]. " * 6,
]


HAS_VLLM = find_spec("vllm") is not None
VLLM_HIDDEN_SIZE = 128
"""vLLM's attention has no kernel for heads of less than 32."""

ENGINES = ["transformers gpt_neox", "transformers gptj", "transformers llama"]
ENGINES += ["vllm gpt_neox", "vllm gptj"] if HAS_VLLM else []

# vLLM takes a minute to load and belongs to one event loop: an engine serves all tests of this module.
pytestmark = pytest.mark.asyncio(loop_scope="module")


def model_of(name: str) -> PreTrainedModel:
    library, architecture = name.split()
    return tiny_model(architecture, VLLM_HIDDEN_SIZE) if library == "vllm" else tiny_model(architecture)


def make_engine(name: str, folder: Path) -> Engine:
    if name.startswith("transformers"):
        return TransformersEngine(model_of(name), tiny_tokenizer(), max_concurrent_requests=8)
    from openchatkit.engines.vllm_engine import VllmEngine, VllmOptions

    model_of(name).save_pretrained(str(folder))
    tiny_tokenizer().save_pretrained(str(folder))
    options = VllmOptions(
        dtype="float32",
        tensor_parallel_degree=1,
        memory_share=0.1,
        max_concurrent_requests=8,
        compiled=False,
    )
    return VllmEngine.load(str(folder), options)


@pytest.fixture(scope="module", params=ENGINES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(name: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    engine = await asyncio.to_thread(make_engine, name, tmp_path_factory.mktemp("model"))
    yield engine
    await engine.close()


async def chunks(
    engine: Engine, prompt: str, asked: SamplingParameters, request_id: str = "r"
) -> list[Chunk]:
    return [chunk async for chunk in engine.generate(prompt, asked, request_id)]


async def reply(engine: Engine, prompt: str, asked: SamplingParameters, request_id: str = "r") -> str:
    return "".join(chunk.text for chunk in await chunks(engine, prompt, asked, request_id))


async def test_the_last_chunk_and_only_it_says_why_the_reply_ends(engine: Engine) -> None:
    got = await chunks(engine, PROMPT, parameters(max_new_tokens=30))
    assert [chunk.finish_reason for chunk in got[:-1]] == [None] * (len(got) - 1)
    assert got[-1].finish_reason == "length"
    assert sum(chunk.tokens for chunk in got) == 30
    assert len(got) > 3


async def test_no_chunk_holds_half_a_character(engine: Engine) -> None:
    for prompt in PROMPTS:
        assert "\ufffd" not in await reply(engine, prompt, parameters(max_new_tokens=40))


async def test_many_at_once_get_what_each_gets_alone(engine: Engine, name: str) -> None:
    asked = [
        parameters(max_new_tokens=20),
        parameters(max_new_tokens=35),
        parameters(max_new_tokens=20, temperature=0.8, top_k=10, seed=1),
        parameters(max_new_tokens=20, temperature=0.8, top_k=10, seed=1),
        parameters(max_new_tokens=50, temperature=1.2, top_p=0.9, repetition_penalty=1.3, seed=2),
    ]
    if name.startswith("vllm") and not torch.cuda.is_available():
        # On a CPU vLLM forgets all seeds of a batch that holds a request without one.
        asked = [each for each in asked if each.seed is not None]
        asked += [asked[0], asked[-1]]
    alone = [await reply(engine, prompt, each) for prompt, each in zip(PROMPTS, asked, strict=True)]
    together = await asyncio.gather(
        *(
            reply(engine, prompt, each, f"r{number}")
            for number, (prompt, each) in enumerate(zip(PROMPTS, asked, strict=True))
        )
    )
    assert together == alone


async def test_greedy_replies_at_once_are_those_of_each_alone(engine: Engine) -> None:
    asked = parameters(max_new_tokens=25, repetition_penalty=1.1)
    alone = [await reply(engine, prompt, asked) for prompt in PROMPTS]
    together = [reply(engine, prompt, asked, f"r{number}") for number, prompt in enumerate(PROMPTS)]
    assert await asyncio.gather(*together) == alone


async def test_a_short_reply_does_not_wait_for_a_long_one(engine: Engine) -> None:
    long = asyncio.create_task(reply(engine, PROMPT, parameters(max_new_tokens=400), "long"))
    await asyncio.sleep(0.05)
    await reply(engine, PROMPT, parameters(max_new_tokens=2), "short")
    assert not long.done()
    await engine.abort("long")
    await long


async def test_a_stop_word_across_tokens_ends_the_reply(engine: Engine) -> None:
    whole = await reply(engine, PROMPT, parameters(max_new_tokens=40))
    for start in range(4, 12, 2):
        word = whole[start : start + 5]
        got = await chunks(engine, PROMPT, parameters(max_new_tokens=40, stop=(word, "never written")))
        assert "".join(chunk.text for chunk in got) == whole[: whole.find(word)]
        assert got[-1].finish_reason == "stop"


async def test_a_reply_ends_where_the_context_ends(engine: Engine) -> None:
    prompt = "Revenue " * 3
    room = engine.context_length - engine.tokenizer.count(prompt)
    got = await chunks(engine, prompt, parameters(max_new_tokens=10_000, temperature=1.0, seed=5))
    assert sum(chunk.tokens for chunk in got) <= room
    assert got[-1].finish_reason == ("length" if sum(chunk.tokens for chunk in got) == room else "stop")


@pytest.mark.parametrize("prompt", ["", "Revenue " * 1000])
async def test_a_prompt_that_leaves_no_room_fails(engine: Engine, prompt: str) -> None:
    with pytest.raises(EngineFailed):
        await chunks(engine, prompt, parameters())


async def test_abort_ends_the_stream_with_cancelled(engine: Engine) -> None:
    got = []
    async for chunk in engine.generate(PROMPT, parameters(max_new_tokens=400), "r"):
        got.append(chunk)
        if len(got) == 3:
            await engine.abort("r")
    assert got[-1].finish_reason == "cancelled"
    assert sum(chunk.tokens for chunk in got) < 400


async def test_abort_of_an_unknown_request_is_fine(engine: Engine) -> None:
    await engine.abort("nobody")


async def test_a_consumer_may_leave(engine: Engine) -> None:
    stream = engine.generate(PROMPT, parameters(max_new_tokens=400), "r")
    await anext(stream)
    await stream.aclose()
    assert await reply(engine, PROMPT, parameters(max_new_tokens=3))


async def test_scores_are_probabilities(engine: Engine) -> None:
    choices = [" casual", " needs caution", "[1]", "売上"]
    scores = await engine.score(PROMPT, choices)
    assert sum(scores) == pytest.approx(1)
    assert all(score > 0 for score in scores)
    assert scores == pytest.approx(await engine.score(PROMPT, choices), rel=1e-4)
    turned = await engine.score(PROMPT, choices[::-1])
    assert turned[::-1] == pytest.approx(scores, rel=1e-4)


@pytest.mark.skipif(not HAS_VLLM or not torch.cuda.is_available(), reason="vLLM records steps on a GPU only")
async def test_recorded_steps_score_what_plain_ones_do(tmp_path: Path) -> None:
    from openchatkit.engines.vllm_engine import VllmEngine, VllmOptions

    model, tokenizer = tiny_model("gptj", VLLM_HIDDEN_SIZE), tiny_tokenizer()
    model.save_pretrained(str(tmp_path))
    tokenizer.save_pretrained(str(tmp_path))
    options = VllmOptions(
        dtype="float16",
        tensor_parallel_degree=1,
        memory_share=0.1,
        max_concurrent_requests=64,
        recorded_steps=True,
    )
    choices = [" 2025", " euros", " of the"]
    prompts = [f"{PROMPT} {'It earned 310 million euros. ' * (n % 9)}No {n}:" for n in range(48)]
    expected = [choice_probabilities(model, tokenizer, prompt, choices) for prompt in prompts]
    engine = await asyncio.to_thread(VllmEngine.load, str(tmp_path), options)
    try:
        for together in (1, 5, 48):
            for start in range(0, len(prompts), together):
                part = prompts[start : start + together]
                scores = await asyncio.gather(*(engine.score(prompt, choices) for prompt in part))
                for one, known in zip(scores, expected[start:], strict=False):
                    assert one == pytest.approx(known, abs=0.01)
    finally:
        await engine.close()


async def test_what_the_model_says_scores_best(engine: Engine) -> None:
    said = await reply(engine, "Revenue of", parameters(max_new_tokens=6))
    scores = await engine.score("Revenue of", [" 2025", said, " euros"])
    assert max(scores) == scores[1]


async def test_scores_do_not_depend_on_what_else_is_scored(engine: Engine) -> None:
    prompts = [f"{number}. {PROMPT}" for number in range(6)]
    choices = [" possibly needs caution", " needs caution", " needs intervention"]
    alone = [await engine.score(prompt, choices) for prompt in prompts]
    together = await asyncio.gather(*(engine.score(prompt, choices) for prompt in prompts))
    for one, among in zip(alone, together, strict=True):
        assert among == pytest.approx(one, rel=5e-3)


async def test_score_runs_beside_replies(engine: Engine) -> None:
    running = asyncio.create_task(reply(engine, PROMPT, parameters(max_new_tokens=400), "long"))
    await asyncio.sleep(0.05)
    assert len(await engine.score(PROMPT, ["a", "b"])) == 2
    assert not running.done()
    await engine.abort("long")
    await running


async def test_tokens_are_counted_and_a_missing_template_is_told(engine: Engine) -> None:
    assert engine.tokenizer.count("Revenue of Aldermoor") > engine.tokenizer.count("Revenue") > 0
    with pytest.raises(ValueError, match="template"):
        engine.tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}])


async def test_greedy_replies_are_those_of_generate(engine: Engine, name: str) -> None:
    model, tokenizer = model_of(name), tiny_tokenizer()
    shown = 0
    for prompt in PROMPTS:
        tokens = torch.tensor([tokenizer(prompt)["input_ids"]])
        made = model.generate(  # type: ignore[operator]
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=30, do_sample=False
        )
        expected = tokenizer.decode(made[0, tokens.shape[1] :], skip_special_tokens=True)
        got = await reply(engine, prompt, parameters(max_new_tokens=30))
        # Broken characters are never shown; those at the end wait for a token that does not come.
        assert str(expected).replace("\ufffd", "").startswith(got)
        shown += len(got)
    assert shown > 15 * len(PROMPTS)


async def test_scores_are_mean_log_likelihoods(engine: Engine, name: str) -> None:
    model, tokenizer = model_of(name), tiny_tokenizer()
    prompt = f"First line\n{PROMPT}"
    choices = [" casual", " possibly needs caution", " needs caution", " needs intervention", "[1]"]
    expected = choice_probabilities(model, tokenizer, prompt, choices)
    # What is expected was computed on the CPU; on an H200 float32 differs from it by three in a thousand.
    tolerance = 5e-3 if torch.cuda.is_available() else 2e-3
    assert await engine.score(prompt, choices) == pytest.approx(expected, rel=tolerance)


async def test_a_choice_of_one_or_one_that_begins_another_has_a_score(engine: Engine) -> None:
    assert await engine.score(PROMPT, [" needs caution"]) == [1.0]
    scores = await engine.score(PROMPT, [" needs", " needs caution", " casual"])
    assert sum(scores) == pytest.approx(1)
    assert all(score > 0 for score in scores)


async def test_no_log_line_holds_a_text(
    engine: Engine, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    canary = "Zanzibar-Canary-77"
    with caplog.at_level(logging.DEBUG):
        await reply(engine, canary, parameters(max_new_tokens=5))
        await engine.score(canary, ["a", "b"])
        with pytest.raises(EngineFailed) as failure:
            await reply(engine, canary * 200, parameters())
    printed = capfd.readouterr()
    assert canary not in caplog.text + printed.out + printed.err + str(failure.value)


async def test_close_ends_what_is_pending(engine: Engine) -> None:  # the last one: it is closed then
    stream = engine.generate(PROMPT, parameters(max_new_tokens=400), "r")
    await anext(stream)
    others = [
        asyncio.create_task(reply(engine, PROMPT, parameters(max_new_tokens=400), f"r{number}"))
        for number in range(20)
    ]
    await asyncio.sleep(0)
    await engine.close()
    with pytest.raises(EngineFailed):
        async for _ in stream:
            pass
    for other in others:
        with pytest.raises(EngineFailed):
            await other
    with pytest.raises(EngineFailed):
        await reply(engine, PROMPT, parameters())
    with pytest.raises(EngineFailed):
        await engine.score(PROMPT, ["a", "b"])
    await engine.close()
