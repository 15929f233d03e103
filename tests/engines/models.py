"""Tiny random models for the engines' tests, made once a session, and a way to watch them.

Not trained: what they say is noise, with many broken characters, but the same noise each time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from openchatkit.engines.transformers_engine import TransformersEngine
from openchatkit.ports import SamplingParameters

CORPUS = [
    "Revenue of Aldermoor Freight rose 12 % to 4.1 billion euros in 2025.",
    "<human>: What did the company earn?\n<bot>: It earned 310 million euros [1].",
    "Die Erträge stiegen — trotz höherer Zinsen — um 7 %. 売上高は増加した。 🙂 €£¥",
]
# Threads of tiny operations spend their time waiting for each other, on a busy machine most of it.
torch.set_num_threads(1)

VOCABULARY = 400
CONTEXT_LENGTH = 512


@functools.cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer of `VOCABULARY` tokens, token 0 the end of text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token="<|endoftext|>"
    )


@functools.cache
def tiny_model(architecture: str, hidden_size: int = 32) -> PreTrainedModel:
    """Return a random model of an architecture, float32, two layers, four heads."""
    # The initialisation is wider than usual: greedy text would run into one repeated token.
    options: dict[str, Any] = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0}
    options |= {"initializer_range": 0.4 * (32 / hidden_size) ** 0.5, "hidden_size": hidden_size}
    options |= {"max_position_embeddings": CONTEXT_LENGTH}
    options |= {"num_hidden_layers": 2, "num_attention_heads": 4} | _PARTICULARS[architecture]
    torch.manual_seed(7)
    config = AutoConfig.for_model(architecture, **options)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    assert isinstance(model, PreTrainedModel)
    return model


_PARTICULARS: dict[str, dict[str, Any]] = {
    "gpt_neox": {"intermediate_size": 64},
    "gptj": {"rotary_dim": 4},
    "llama": {"intermediate_size": 64, "num_key_value_heads": 2},
    "mistral": {"intermediate_size": 64, "num_key_value_heads": 2, "sliding_window": 16},
}
ARCHITECTURES = tuple(_PARTICULARS)


def tiny_engine(architecture: str = "gpt_neox", *, max_concurrent_requests: int = 8) -> TransformersEngine:
    """Return an engine on a tiny model. The caller closes it."""
    return TransformersEngine(
        tiny_model(architecture), tiny_tokenizer(), max_concurrent_requests=max_concurrent_requests
    )


def parameters(
    *,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    max_new_tokens: int = 24,
    repetition_penalty: float = 1.0,
    stop: tuple[str, ...] = (),
    seed: int | None = None,
) -> SamplingParameters:
    """Return sampling parameters, greedy unless told otherwise."""
    return SamplingParameters(temperature, top_k, top_p, max_new_tokens, repetition_penalty, stop, seed)


@contextmanager
def before_forward(model: PreTrainedModel, action: Callable[[int], None]) -> Iterator[None]:
    """Call `action` with the number of rows before each forward pass; what it raises fails the pass."""

    def hook(_module: object, _arguments: object, named: dict[str, torch.Tensor]) -> None:
        action(named["input_ids"].shape[0])

    handle = model.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def choice_probabilities(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompt: str, choices: Sequence[str]
) -> list[float]:
    """Return what `Engine.score` has to, from a forward pass a choice."""
    before = tokenizer(prompt)["input_ids"]
    tokens = [tokenizer(prompt + choice)["input_ids"][len(before) :] for choice in choices]
    means = []
    for mine in tokens:
        with torch.inference_mode():
            logits = model(torch.tensor([before + mine])).logits[0, len(before) - 1 : -1]
        likelihoods = torch.log_softmax(logits, dim=-1).gather(-1, torch.tensor(mine).unsqueeze(-1))
        telling = [
            place
            for place in range(len(mine))
            if any(
                other[:place] == mine[:place] and other[: place + 1] != mine[: place + 1] for other in tokens
            )
        ]
        means.append(likelihoods[telling].mean())
    return torch.softmax(torch.stack(means).double(), dim=0).tolist()
