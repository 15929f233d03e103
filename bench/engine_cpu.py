"""Measure the transformers engine on a CPU beside transformers' own `generate`, in one run.

A prompt of 350 tokens, 100 tokens of reply, greedy; 1 and 8 clients at once. `generate` serves one
after the other, as a server without batching would. The runs alternate, so that whatever else the
machine does meets both; the medians count. It prints a table, then one last line of JSON.

    python bench/engine_cpu.py [--model DIR] [--rounds N] [--device cpu|cuda:0] [--manager]

Without `--model` it takes the demonstration model, or a random model of its shape where there is
none: the speed is the same. `--manager` measures transformers' `generate_batch` too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "handler"))

from openchatkit.engines.transformers_engine import TransformersEngine, cpu_threads  # noqa: E402
from openchatkit.ports import SamplingParameters  # noqa: E402

DEMO_MODEL = ROOT / "local" / "demo_model"
PROMPT_TOKENS = 350
REPLY_TOKENS = 100
CLIENTS = (1, 8)
SHAPE: dict[str, Any] = {
    "vocab_size": 4096,
    "hidden_size": 320,
    "num_hidden_layers": 8,
    "num_attention_heads": 5,
    "intermediate_size": 1280,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": None,
}


@dataclass(frozen=True)
class Run:
    """What one way of serving did with some clients at once."""

    tokens_per_second: float
    """Of all clients together, prompts included in the time."""
    first_token_s: float
    """Until the last of the clients had its first token."""
    stream_tokens_per_second: float
    """Of one client, from its first token on."""


def random_model(directory: Path) -> None:
    """Save a random model of the demonstration model's shape, with a tokenizer of its size."""
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "handler").rglob("*.py"))]
    tokenizer.train_from_iterator(texts, vocab_size=SHAPE["vocab_size"], show_progress=False)
    backend = tokenizer._tokenizer
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(directory)  # type: ignore[no-untyped-call]
    torch.manual_seed(0)
    config = AutoConfig.for_model("gpt_neox", **SHAPE)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)  # type: ignore[no-untyped-call]


def prompts_of(tokenizer: PreTrainedTokenizerBase, clients: int) -> list[str]:
    """Return one prompt of `PROMPT_TOKENS` tokens for each client, all different."""
    text = (ROOT / "handler" / "openchatkit" / "ports.py").read_text(encoding="utf-8")
    tokens = tokenizer(text, verbose=False)["input_ids"]
    return [
        str(tokenizer.decode(tokens[client * 50 : client * 50 + PROMPT_TOKENS])) for client in range(clients)
    ]


async def engine_run(engine: TransformersEngine, prompts: list[str]) -> Run:
    """Serve all prompts at once with the engine."""
    asked = SamplingParameters(
        temperature=0, top_k=0, top_p=1, max_new_tokens=REPLY_TOKENS, repetition_penalty=1, stop=()
    )

    async def client(number: int) -> tuple[float, float, int, int]:
        first, first_tokens, tokens = 0.0, 0, 0
        async for chunk in engine.generate(prompts[number], asked, f"client-{number}"):
            tokens += chunk.tokens
            if not first:
                first, first_tokens = time.perf_counter() - start, chunk.tokens
        return first, time.perf_counter() - start, first_tokens, tokens

    start = time.perf_counter()
    ended = await asyncio.gather(*map(client, range(len(prompts))))
    wall = time.perf_counter() - start
    streams = [(tokens - early) / (end - first) for first, end, early, tokens in ended if end > first]
    return Run(sum(tokens for *_, tokens in ended) / wall, max(ended)[0], statistics.median(streams or [0.0]))


class FirstToken:
    """A stopping criterion that stops nothing and notes when the first token was there."""

    at: float | None = None

    def __call__(self, tokens: torch.Tensor, _scores: torch.Tensor, **_options: object) -> torch.Tensor:
        """Return that no row is to stop."""
        self.at = self.at or time.perf_counter()
        return torch.zeros(tokens.shape[0], dtype=torch.bool, device=tokens.device)


def generate_run(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str]) -> Run:
    """Serve the prompts one after the other with `generate`."""
    start = time.perf_counter()
    total, first, streams = 0, 0.0, []
    for prompt in prompts:
        inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
        seen = FirstToken()
        output = model.generate(  # type: ignore[operator]
            **inputs,
            max_new_tokens=REPLY_TOKENS,
            do_sample=False,
            pad_token_id=0,
            stopping_criteria=[seen],
        )
        end = time.perf_counter()
        made = output.shape[1] - inputs["input_ids"].shape[1]
        assert seen.at is not None
        first = seen.at - start
        total += made
        streams.append((made - 1) / (end - seen.at))
    return Run(total / (time.perf_counter() - start), first, statistics.median(streams))


def manager_run(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str]) -> Run:
    """Serve all prompts at once with transformers' continuous batching; whole replies only."""
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=REPLY_TOKENS, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    inputs = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    start = time.perf_counter()
    outputs = model.generate_batch(  # type: ignore[operator]
        inputs, generation_config=settings, progress_bar=False
    )
    wall = time.perf_counter() - start
    total = sum(len(output.generated_tokens) for output in outputs.values())
    return Run(total / wall, wall, total / wall / len(prompts))


def median(runs: list[Run]) -> Run:
    """Return the median of each figure."""
    columns = zip(*((run.tokens_per_second, run.first_token_s, run.stream_tokens_per_second) for run in runs),
                  strict=True)  # fmt: skip
    return Run(*(statistics.median(column) for column in columns))


async def measure(options: argparse.Namespace, directory: str) -> dict[str, dict[int, Run]]:
    """Return the medians of each way of serving, by the number of clients."""
    engine = await asyncio.to_thread(
        TransformersEngine.load,
        directory,
        revision=None,
        dtype="auto",
        device_map=options.device,
        max_concurrent_requests=32,
    )
    # The same number of threads for everybody.
    torch.set_num_threads(cpu_threads() or torch.get_num_threads())
    tokenizer = AutoTokenizer.from_pretrained(directory)
    dtype = torch.float32 if options.device == "cpu" else "auto"
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, device_map=options.device)
    others: dict[str, Callable[[list[str]], Run]] = {"generate": lambda p: generate_run(model, tokenizer, p)}
    if options.manager:
        paged = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, device_map=options.device)
        others["generate_batch"] = lambda p: manager_run(paged, tokenizer, p)
    runs: dict[str, dict[int, list[Run]]] = {name: {} for name in ("engine", *others)}
    for round_number in range(options.rounds + 1):
        for clients in options.clients:
            prompts = prompts_of(tokenizer, clients)
            results = {"engine": await engine_run(engine, prompts)}
            results |= {name: run(prompts) for name, run in others.items()}
            for name, run in results.items():
                # The first round warms everything up.
                runs[name].setdefault(clients, []).extend([run] if round_number else [])
    await engine.close()
    return {
        name: {clients: median(each) for clients, each in by_clients.items()}
        for name, by_clients in runs.items()
    }


def main() -> None:
    """Print the table and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", help="a directory with a model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS))
    parser.add_argument("--manager", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        name = options.model or (str(DEMO_MODEL) if (DEMO_MODEL / "config.json").exists() else None)
        if name is None:
            random_model(Path(temporary))
        medians = asyncio.run(measure(options, name or temporary))
    print(f"{'':16}{'clients':>8}{'tokens/s':>10}{'first token s':>15}{'tokens/s of a stream':>22}")
    for way, by_clients in medians.items():
        for clients, run in by_clients.items():
            figures = (
                f"{run.tokens_per_second:10.0f}{run.first_token_s:15.3f}{run.stream_tokens_per_second:22.0f}"
            )
            print(f"{way:16}{clients:8}{figures}")
    print(
        json.dumps(
            {
                "bench": "engine_cpu",
                "model": Path(name).name if name else "random, demonstration model's shape",
                "device": options.device,
                "prompt_tokens": PROMPT_TOKENS,
                "reply_tokens": REPLY_TOKENS,
                "rounds": options.rounds,
                "results": {
                    way: {str(clients): vars(run) for clients, run in by_clients.items()}
                    for way, by_clients in medians.items()
                },
            }
        )
    )


if __name__ == "__main__":
    main()
