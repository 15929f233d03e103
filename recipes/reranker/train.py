"""Train the local reranker: MiniLM, reading question and passage together.

    PYTHONPATH=handler:. python3 -m recipes.reranker.train --out DIR [--minilm DIR]

Five minutes on one H200; several side by side cost little more, and `mean.py` makes one of them. On two
cores it takes an hour to teach the committed one something more (its card has the command).

A question's candidates and an empty place, whose logit is 0, compete in one softmax: what answers must beat
both the other sentences and the claim that nothing does. So the sigmoid of a logit is a score that a
threshold can be set on.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from openchatkit.retrieval.difference import FILE, named_for, save_difference, with_difference
from openchatkit.retrieval.encoder import SentenceEncoder, bundled_minilm_directory
from recipes.reranker.examples import Example, drawn, generated, written

PAIRS = {"cuda": 256, "cpu": 16}
"""Pairs that are read at once: on a CPU as many as its caches hold."""
MAX_TOKENS = 192
WARM_UP = 0.1
NEAREST = 10
"""Candidates that are read for a held-out question, as when served."""


@dataclass(slots=True)
class Job:
    """An example with its candidates by how near they lie to the question."""

    example: Example
    order: list[int]


class Reader:
    """Network and tokenizer on a device."""

    def __init__(self, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, device: str) -> None:
        moved: Any = network
        self.network = moved.to(device)
        self.tokenizer = tokenizer
        self.device = device

    def logits(self, questions: Sequence[str], texts: Sequence[str]) -> Tensor:
        """Return how well each text answers its question, shape `(pairs,)`."""
        # Pairs of like length go together, else most of a batch is padding.
        order = sorted(range(len(texts)), key=lambda at: len(questions[at]) + len(texts[at]))
        size = PAIRS[self.device]
        parts = [order[at : at + size] for at in range(0, len(order), size)]
        found = torch.cat([self._together(questions, texts, part) for part in parts])
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return found[back.to(self.device)]

    def _together(self, questions: Sequence[str], texts: Sequence[str], part: Sequence[int]) -> Tensor:
        batch = self.tokenizer(
            [questions[at] for at in part],
            [texts[at] for at in part],
            truncation=True,
            padding=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        ).to(self.device)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            found: Tensor = self.network(**batch).logits[:, 0]
        return found.float()


def ranked(examples: Sequence[Example], minilm: Path, device: str) -> list[Job]:
    """Return the examples with their candidates in the order of the plain search."""
    encoder = SentenceEncoder.load(minilm, device=device)
    texts = list(dict.fromkeys(text for one in examples for text in (one.question, *one.candidates)))
    vectors = dict(zip(texts, encoder.encode(texts), strict=True))
    jobs = []
    for one in examples:
        near = np.stack([vectors[text] for text in one.candidates]) @ vectors[one.question]
        jobs.append(Job(one, np.argsort(-near, kind="stable").tolist()))
    return jobs


def loss_of(reader: Reader, rng: random.Random, jobs: Sequence[Job], most: int) -> Tensor:
    """Return the mean loss over the questions, of each at most `most` candidates."""
    questions: list[str] = []
    texts: list[str] = []
    right = torch.zeros(len(jobs), most + 1, dtype=torch.bool)
    taken = torch.zeros_like(right)
    for row, job in enumerate(jobs):
        candidates, answers = drawn(rng, job.example, job.order, most)
        questions += [job.example.question] * len(candidates)
        texts += candidates
        taken[row, 1 : len(candidates) + 1] = True
        right[row, 1 : len(candidates) + 1] = torch.tensor(answers, dtype=torch.bool)
    # The first place is the empty one: its logit is 0, and it is right where no candidate is.
    right[:, 0] = ~right.any(1)
    logits = reader.logits(questions, texts)
    scores = logits.new_full(taken.shape, -math.inf)
    scores[:, 0] = 0
    scores = scores.masked_scatter(taken.to(logits.device), logits)
    wanted = scores.masked_fill(~right.to(logits.device), -math.inf)
    return (scores.logsumexp(1) - wanted.logsumexp(1)).mean()


@torch.inference_mode()
def measure(reader: Reader, jobs: Sequence[Job], most: int) -> dict[str, float]:
    """Return how often the best of the `most` nearest answers, and how well scores tell whether any does."""
    reader.network.eval()
    first = nearest = answerable = 0
    yes: list[float] = []
    no: list[float] = []
    right_at: list[tuple[float, bool]] = []
    for job in jobs:
        near = job.order[:most]
        if not near:
            no.append(-math.inf)
            continue
        scores = reader.logits(
            [job.example.question] * len(near), [job.example.candidates[place] for place in near]
        )
        best = near[int(scores.argmax())]
        if job.example.gold:
            answerable += 1
            first += best in job.example.gold
            nearest += near[0] in job.example.gold
            yes.append(float(scores.max()))
            right_at.append((float(scores.max()), best in job.example.gold))
        else:
            no.append(float(scores.max()))
    below = torch.tensor(no)
    auroc = float(torch.tensor([float((below < one).float().mean()) for one in yes]).mean()) if no else 0.0
    found = {
        "answerable": answerable,
        "first": first / max(1, answerable),
        "nearest": nearest / max(1, answerable),
        "auroc": auroc,
    }
    for share in (0.7, 0.8, 0.9):
        if no:
            bar = float(below.quantile(share))
            found[f"first_and_{share}_declined"] = sum(ok and s > bar for s, ok in right_at) / max(
                1, answerable
            )
            found[f"bar_{share}"] = bar
    return {name: round(value, 4) for name, value in found.items()}


def train(
    reader: Reader,
    rng: random.Random,
    jobs: Sequence[Job],
    made: Sequence[Job],
    *,
    seconds: float,
    rate: float,
    questions: int,
    candidates: int,
    share: float,
) -> None:
    """Train for so many seconds.

    Args:
        jobs: written questions, all of them in every epoch.
        made: generated questions to draw from.
        questions: how many make a step.
        candidates: how many sentences compete for a question.
        share: generated questions of an epoch, as a share of the written ones.
        rate: the highest learning rate. It rises for `WARM_UP` of the time and falls to zero by its end.
    """
    # Words keep their vectors: a few thousand questions know few of them.
    network: Any = reader.network
    network.base_model.embeddings.requires_grad_(requires_grad=False)
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    print(f"{sum(weight.numel() for weight in trained):,} weights are trained", flush=True)
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.01)
    network.train()
    begun = time.perf_counter()
    step = epoch = 0
    while True:
        some = [*jobs, *rng.sample(made, min(len(made), int(len(jobs) * share)))]
        rng.shuffle(some)
        total = 0.0
        for at in range(0, len(some), questions):
            spent = (time.perf_counter() - begun) / seconds
            if spent >= 1:
                print(f"{step} steps, {epoch + at / len(some):.2f} epochs, {seconds:.0f} s", flush=True)
                return
            for group in optimizer.param_groups:
                group["lr"] = rate * min(spent / WARM_UP, (1 - spent) / (1 - WARM_UP))
            loss = loss_of(reader, rng, some[at : at + questions], candidates)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            total += float(loss.detach())
            step += 1
        epoch += 1
        mean = total * questions / len(some)
        print(f"epoch {epoch} loss {mean:.4f}  {time.perf_counter() - begun:.0f} s", flush=True)


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minilm", type=Path)
    parser.add_argument("--start", type=Path, help="reranker to train on, in place of MiniLM")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--generated", type=int, default=15_000, help="generated questions to draw from")
    parser.add_argument(
        "--share", type=float, default=0.25, help="of them in an epoch, a part of the written"
    )
    parser.add_argument("--questions", type=int, default=32, help="questions of a step")
    parser.add_argument("--candidates", type=int, default=16, help="sentences that compete for a question")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--everything", action="store_true", help="also train on what is held out")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    minilm = options.minilm or bundled_minilm_directory()
    torch.manual_seed(options.seed)
    rng = random.Random(options.seed)
    start = time.perf_counter()
    questions = list(written(held_out=False))
    if options.everything:
        questions += list(written(held_out=True))
    jobs = ranked(questions, minilm, device)
    made = [
        Job(one, list(range(len(one.candidates))))
        for one in generated(options.generated, f"reranker-{options.seed}")
    ]
    held = ranked(list(written(held_out=True)), minilm, device)
    print(f"{len(jobs)} written, {len(made)} generated, {time.perf_counter() - start:.0f} s", flush=True)

    network: Any = AutoModelForSequenceClassification.from_pretrained(
        str(minilm),
        num_labels=1,
        dtype=torch.float32,
        hidden_dropout_prob=options.dropout,
        attention_probs_dropout_prob=options.dropout,
    )
    base = named_for(network, load_file(minilm / "model.safetensors"))
    if options.start:
        network.load_state_dict(with_difference(options.start / FILE, base))
    reader = Reader(network, AutoTokenizer.from_pretrained(str(minilm)), device)
    train(
        reader,
        rng,
        jobs,
        made,
        seconds=options.seconds,
        rate=options.rate,
        questions=options.questions,
        candidates=options.candidates,
        share=options.share,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    save_difference(options.out / FILE, base, network.state_dict())
    print(f"held out: {measure(reader, held, NEAREST)}", flush=True)


if __name__ == "__main__":
    main()
