"""Whole steps of vLLM as CUDA graphs, prompts included, and the proof that they compute what plain ones do.

A step of a model that only scores is short: some hundred small kernels, which the host starts one by one
and which wait in turn where another model shares the GPU. Recorded as one graph they start at once.
vLLM 0.23 records steps of prompts with two kernels of attention. What FlashAttention 3, its choice on a
Hopper GPU, replays fits only the mix of lengths that it was recorded with: others come out as numbers
that are not any, or wrong. The Triton kernel takes its lengths from memory. As a wrong judge is worse
than a slow one, an engine with recorded steps compares some with plain ones before its first score.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from openchatkit.tasks import all_of

LARGEST = 1024
"""Tokens of a recorded step, at most; a larger one keeps the GPU busy by itself."""
TOLERANCE = 0.3
"""Nats, mean of some tokens' log-probabilities. Steps of other sizes round otherwise in half precision, by
some hundredths; a step that attends to the wrong tokens is off by more than one."""
PROMPTS = 8
LONGEST_TAIL = 97
FOLLOWING = 8

Likelihoods = Callable[[list[int], list[int]], Coroutine[Any, Any, dict[int, float]]]
"""From a prompt and tokens that may follow it to the log-probability of each of them."""


def sizes(context_length: int) -> list[int]:
    """Return the tokens of the steps that are recorded; one of fewer tokens is filled up to the next.

    No more than half the context: vLLM records a step as one long prompt, and the check needs longer ones.
    """
    all_sizes = (1, 2, 4, 8, *range(16, 256, 16), *range(256, LARGEST + 1, 64))
    return [size for size in all_sizes if size <= max(1, context_length // 2)]


def arguments(context_length: int) -> dict[str, Any]:
    """Return vLLM's arguments that have whole steps recorded."""
    return {
        "attention_backend": "TRITON_ATTN",
        "compilation_config": {"cudagraph_mode": "FULL", "cudagraph_capture_sizes": sizes(context_length)},
    }


async def largest_difference(
    likelihoods: Likelihoods,
    forget: Callable[[], Awaitable[None]],
    *,
    largest: int,
    context_length: int,
    vocabulary: int,
) -> float:
    """Return by how many nats scores by recorded steps differ from those by plain ones, at most.

    Prompts longer than any recorded step, computed whole, are the plain ones. With all but their ends in
    the prefix cache the same prompts fit recorded steps: all at once, of different lengths, and one by one.

    Args:
        likelihoods: of the engine, which nobody else uses meanwhile.
        forget: empties its prefix cache.
        largest: tokens of the largest recorded step.
        context_length: tokens of the longest prompt.
        vocabulary: number of tokens.
    """
    stem = _tokens(largest + 8, 1, vocabulary)
    # All at once they are to fit a recorded step, with up to a block of the cache each besides.
    longest = max(1, min(LONGEST_TAIL, 2 * largest // PROMPTS - 32, context_length - len(stem) - 1))
    prompts = [[*stem, *_tokens(1 + n * longest // PROMPTS, n + 2, vocabulary)] for n in range(PROMPTS)]
    following = sorted(set(_tokens(FOLLOWING, 0, vocabulary)))

    plain = []
    for prompt in prompts:
        await forget()
        plain.append(await likelihoods(prompt, following))
    await forget()
    await likelihoods(stem, following)
    together = await all_of(likelihoods(prompt, following) for prompt in prompts)
    await forget()
    await likelihoods(stem, following)
    alone = [await likelihoods(prompt, following) for prompt in prompts]
    await forget()
    differences = [
        sum(abs(one[token] - other[token]) for token in following) / len(following)
        for recorded in (together, alone)
        for one, other in zip(plain, recorded, strict=True)
    ]
    # What is no number is larger than any.
    return max(difference if difference == difference else float("inf") for difference in differences)


def _tokens(number: int, salt: int, vocabulary: int) -> list[int]:
    """Return tokens that look like no text, the same ones each time."""
    return [(7919 * place * place + 104_729 * (place + salt) + salt) % vocabulary for place in range(number)]
