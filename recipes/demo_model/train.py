"""Trains the small offline chat model from nothing on one GPU, saves it and scores it.

    PYTHONPATH=handler:. python3 -m recipes.demo_model.train --out DIR

Needs torch 2.11, transformers 5, tokenizers, `handler/` on the path, one Hopper-class GPU and a
dozen CPU cores for the text; a CPU alone is enough for a trial of small size. The learning rate follows
the clock as well as the step, so that the run ends in time on a slower machine, with fewer steps. A run
is not bitwise repeatable: rows arrive in any order.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, GPTNeoXForCausalLM

from recipes.demo_model.evaluate import ORDERS, evaluate
from recipes.demo_model.model import Muon, new_model, packed_loss
from recipes.demo_model.probe import Probe
from recipes.demo_model.stream import Batch, Stream
from recipes.demo_model.tokenizer import SAMPLE, save_tokenizer, train_tokenizer

LENGTH = 65_536
SLOTS = 768
WARM_UP = 200
CONTEXT_WEIGHT = 1
"""Loss on everything but the last reply, in tenths of the reply's."""
RANKED = 0.7
"""Share of the examples not made of stories whose passages come in the order of a search."""
CONTINUED = 0.4
"""Scale of the learning rate where training goes on from a saved model."""
PROBED = 60.0
"""Seconds of training between two looks at the natural questions."""
REPORTED = 250
"""Steps between two lines on the loss."""


def schedule(progress: float, step: int) -> float:
    """Return the share of the peak learning rate: linear warm-up, then cosine to 2 %.

    Where so many steps are more than a twentieth of the run, that twentieth warms up.
    """
    warm = min(1.0, max((step + 1) / WARM_UP, progress / 0.05))
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def optimizers(model: GPTNeoXForCausalLM, name: str, scale: float) -> list[torch.optim.Optimizer]:
    """Return the optimizers: AdamW alone, or Muon for the matrices and AdamW for the rest."""
    matrices = [w for n, w in model.named_parameters() if w.ndim == 2 and "embed" not in n]
    others = [w for n, w in model.named_parameters() if w.ndim != 2 or "embed" in n]
    if name == "adamw":
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        return [torch.optim.AdamW(groups, lr=1.5e-3 * scale, betas=(0.9, 0.98))]
    return [
        Muon(matrices, lr=0.015 * scale),
        torch.optim.AdamW(others, lr=2e-3 * scale, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def to_device(batch: Batch, device: str) -> tuple[torch.Tensor, ...]:
    """Return ids, targets, weights, positions and starts on the device."""

    def move(array: NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True).to(dtype)

    return (
        move(batch.ids.astype("int32"), torch.int64),
        move(batch.targets.astype("int32"), torch.int64),
        move(batch.weights, torch.float32) / 10,
        move(batch.positions.astype("int32"), torch.int64),
        move(batch.starts, torch.int32),
    )


class Course:
    """One training run: the model, its optimizers, and what has happened so far."""

    def __init__(self, model: GPTNeoXForCausalLM, stream: Stream, probe: Probe, *, device: str) -> None:
        self.model = model
        self.stream = stream
        self.probe = probe
        self.device = device
        self.loss_of: Any = torch.compile(packed_loss) if device == "cuda" else packed_loss
        self.waited = 0.0
        self.curve: list[list[float]] = []
        self.probes: list[dict[str, float]] = []

    def step(self, tools: list[torch.optim.Optimizer]) -> tuple[torch.Tensor, torch.Tensor]:
        """Take one step; return the loss and the loss on the replies."""
        asked = time.perf_counter()
        batch = to_device(self.stream.next(), self.device)
        self.waited += time.perf_counter() - asked
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device == "cuda"):
            loss, reply = self.loss_of(self.model, *batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for tool in tools:
            tool.step()
            tool.zero_grad(set_to_none=True)
        return loss, reply

    def look(self, took: float, step: int) -> None:
        """Score the natural questions and print it."""
        shares = self.probe.shares(self.model)
        self.probes.append({"seconds": round(took, 1), "step": step, **shares})
        print(
            f"{took:4.0f} s  step {step:5}  natural_dev2 answered {shares['answered']:.3f} "
            f"declined {shares['declined']:.3f}",
            flush=True,
        )


def fit(
    course: Course,
    seconds: float,
    steps: int,
    optimizer: str,
    *,
    length: int,
    scale: float = 1.0,
    probed: float = PROBED,
) -> dict[str, Any]:
    """Train until the steps or the seconds are used up; return what happened."""
    tools = optimizers(course.model, optimizer, scale)
    peaks = [[group["lr"] for group in tool.param_groups] for tool in tools]
    start, step, looked = time.perf_counter(), 0, 0.0
    while (elapsed := time.perf_counter() - start) < seconds and step < steps:
        rate = schedule(max(elapsed / seconds, step / steps), step)
        for tool, peak in zip(tools, peaks, strict=True):
            for group, top in zip(tool.param_groups, peak, strict=True):
                group["lr"] = top * rate
        loss, reply = course.step(tools)
        if step == 0:  # the clock starts when compilation is over
            loss.item()
            print(f"compiled in {time.perf_counter() - start:.0f} s", flush=True)
            start, course.waited = time.perf_counter(), 0.0
        took = max(1e-3, time.perf_counter() - start)
        if step % REPORTED == 0:
            course.curve.append([step, round(reply.item(), 4)])
            print(
                f"step {step:5} loss {loss.item():.3f} reply {reply.item():.4f} {took:.0f} s, "
                f"waited {course.waited:.0f} s, {step * length / took / 1e6:.3f} M tok/s",
                flush=True,
            )
        if took - looked >= probed:
            looked = took
            course.look(took, step)
        step += 1
    final = round(reply.item(), 4)
    took = time.perf_counter() - start
    course.look(took, step)
    return {
        "steps": step,
        "tokens": step * length,
        "seconds": round(took, 1),
        "optimizer": optimizer,
        "reply_loss": final,
        "curve": course.curve,
        "natural_dev2": course.probes,
    }


def save(model: GPTNeoXForCausalLM, out: Path) -> None:
    """Write the model in half precision, with a configuration that older readers understand too."""
    half: Any = model
    half = half.to("cpu").half()
    half.generation_config.update(
        max_new_tokens=160, do_sample=False, eos_token_id=0, pad_token_id=1, bos_token_id=0
    )
    half.save_pretrained(str(out), safe_serialization=True)
    file = out / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config |= {"rotary_pct": 0.5, "rotary_emb_base": 10000, "torch_dtype": "float16"}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def train(options: argparse.Namespace, device: str) -> dict[str, Any]:
    """Train the model and save it; return what happened."""
    tokenizer: Any
    if options.start:
        tokenizer = AutoTokenizer.from_pretrained(str(options.start))
        model: Any = GPTNeoXForCausalLM.from_pretrained(str(options.start), dtype=torch.float32)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(options.start / name, options.out / name)
    else:
        begun = time.perf_counter()
        tokenizer = train_tokenizer(sample=options.sample, workers=options.workers)
        save_tokenizer(tokenizer, options.out)
        print(f"tokenizer in {time.perf_counter() - begun:.0f} s", flush=True)
        model = new_model(len(tokenizer), options.layers, options.hidden, options.heads, options.inner)
    model.to(device)
    print(f"{len(tokenizer)} tokens, {sum(w.numel() for w in model.parameters()):,} parameters", flush=True)
    stream = Stream(
        options.out / "tokenizer.json",
        options.workers,
        options.length,
        SLOTS,
        options.context_weight,
        options.seed,
        options.ranked,
        options.bare,
    )
    scale = options.rate * (CONTINUED if options.start else 1.0)
    try:
        course = Course(model, stream, Probe(tokenizer, device), device=device)
        report = fit(
            course,
            options.seconds,
            options.steps,
            options.optimizer,
            length=options.length,
            scale=scale,
            probed=options.probed,
        )
    finally:
        stream.close()
    save(model, options.out)
    return {"started_from": str(options.start) if options.start else None, "mixture": report}


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line; the defaults are the recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=420.0, help="of training; the rest comes on top")
    parser.add_argument("--start", type=Path, help="a saved model to go on from")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--optimizer", choices=("muon", "adamw"), default="muon")
    parser.add_argument("--rate", type=float, default=1.0, help="scale of the learning rates")
    parser.add_argument("--ranked", type=float, default=RANKED, help="see RANKED")
    parser.add_argument("--bare", type=float, default=0.0, help="share of further questions without passages")
    parser.add_argument("--context-weight", type=int, default=CONTEXT_WEIGHT, help="see CONTEXT_WEIGHT")
    parser.add_argument("--probed", type=float, default=PROBED, help="see PROBED; a CPU wants hundreds")
    parser.add_argument("--number", type=int, default=200, help="generated dialogues a score is taken from")
    parser.add_argument("--seed", type=int, default=1)
    size = parser.add_argument_group("size, for trials")
    size.add_argument("--layers", type=int, default=10)
    size.add_argument("--hidden", type=int, default=320)
    size.add_argument("--heads", type=int, default=10)
    size.add_argument("--inner", type=int, default=960)
    size.add_argument("--length", type=int, default=LENGTH, help="tokens a step")
    size.add_argument("--sample", type=int, default=SAMPLE, help="dialogues the tokenizer learns from")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the whole recipe."""
    options = arguments().parse_args(argv)
    begun = time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    training = train(options, device)
    print(json.dumps(training), flush=True)
    scores: dict[str, Any] = {}
    if options.number:
        scores = evaluate(options.out, device, options.number, 200, searched=ORDERS.exists())
    training |= {
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "total_seconds": round(time.perf_counter() - begun, 1),
    }
    (options.out / "scores.json").write_text(
        json.dumps({"training": training, "scores": scores}, indent=1) + "\n"
    )
    print(json.dumps(scores), flush=True)


if __name__ == "__main__":
    main()
