from __future__ import annotations

from collections import Counter

import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor, TopPLogitsWarper

from openchatkit.engines.sampling import NO_TOKEN, Sampler, choose_tokens
from tests.engines.models import parameters

VOCABULARY = 50


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn((6, VOCABULARY), generator=torch.Generator().manual_seed(1)) * 3


def test_temperature_zero_takes_the_likeliest(logits: torch.Tensor) -> None:
    samplers = [Sampler(parameters(), [1, 2]) for _ in logits]
    assert choose_tokens(logits, samplers) == logits.argmax(-1).tolist()


def test_a_mixed_batch_gives_everybody_what_they_get_alone(logits: torch.Tensor) -> None:
    asked = [
        parameters(),
        parameters(temperature=0.7, top_k=5, seed=1),
        parameters(temperature=0.7, top_k=5, seed=2),
        parameters(temperature=1.0, seed=3),
        parameters(temperature=1.3, top_p=0.8, seed=4, repetition_penalty=1.5),
        parameters(repetition_penalty=2.0),
    ]
    prompts = [[row, row + 1, row + 1] for row in range(6)]

    def draws(rows: list[int]) -> list[list[int]]:
        samplers = [Sampler(asked[row], prompts[row]) for row in rows]
        return [choose_tokens(logits[rows], samplers) for _ in range(8)]

    together = draws(list(range(6)))
    for row in range(6):
        assert [tokens[row] for tokens in together] == [tokens[0] for tokens in draws([row])]


def test_draws_follow_the_probabilities(logits: torch.Tensor) -> None:
    sampler = Sampler(parameters(temperature=1.0, top_p=0.9, seed=5), [0])
    counts = Counter(choose_tokens(logits[:1], [sampler])[0] for _ in range(4000))
    kept = TopPLogitsWarper(0.9)(torch.LongTensor(), logits[:1])
    expected = torch.softmax(kept, dim=-1)[0]
    assert all(expected[token] > 0 for token in counts)
    seen = torch.tensor([counts[token] / 4000 for token in range(VOCABULARY)])
    # Half the sum of absolute differences; 4000 draws from few tokens stay far below 0.05.
    assert float((seen - expected).abs().sum() / 2) < 0.05


def test_top_k_one_is_greedy(logits: torch.Tensor) -> None:
    samplers = [Sampler(parameters(temperature=1.5, top_k=1), [0]) for _ in logits]
    assert choose_tokens(logits, samplers) == logits.argmax(-1).tolist()


def test_the_penalty_is_about_the_prompt_and_the_reply(logits: torch.Tensor) -> None:
    best = int(logits[0].argmax())
    sampler = Sampler(parameters(repetition_penalty=2.0), [3])
    sampler.tokens.append(best)
    penalised = RepetitionPenaltyLogitsProcessor(2.0)(torch.LongTensor([[3, best]]), logits[:1].clone())
    assert choose_tokens(logits[:1], [sampler]) == [int(penalised.argmax())]


def test_without_a_seed_two_requests_differ() -> None:
    flat = torch.zeros((1, 1000))
    first, second = (
        [choose_tokens(flat, [sampler])[0] for _ in range(6)]
        for sampler in (Sampler(parameters(temperature=1.0), [0]), Sampler(parameters(temperature=1.0), [0]))
    )
    assert first != second


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_numbers_are_one_requests_trouble(
    logits: torch.Tensor, temperature: float
) -> None:
    logits[1, 4] = float("nan")
    samplers = [Sampler(parameters(temperature=temperature), [0]) for _ in logits]
    tokens = choose_tokens(logits, samplers)
    assert tokens[1] == NO_TOKEN
    assert NO_TOKEN not in tokens[:1] + tokens[2:]


def test_a_tiny_temperature_stays_in_range(logits: torch.Tensor) -> None:
    samplers = [Sampler(parameters(temperature=temperature), [0]) for temperature in (1e-30, 2e-5)]
    assert choose_tokens(logits[:2], samplers) == logits[:2].argmax(-1).tolist()
