"""Trains the small offline chat model from nothing on one GPU, saves it and scores it.

    python -m recipes.demo_model.train --out DIR

Needs torch 2.11, transformers 5, tokenizers, `handler/` on the path, one Hopper-class GPU and a
dozen CPU cores for the text. The learning rate follows the clock as well as the step, so that the
run ends in time on a slower machine, with fewer steps. A run is not bitwise repeatable: rows arrive
in any order.
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

from recipes.demo_model.evaluate import evaluate
from recipes.demo_model.model import Muon, new_model, packed_loss
from recipes.demo_model.stream import Batch, Stream
from recipes.demo_model.tokenizer import save_tokenizer, train_tokenizer

LENGTH = 65_536
SLOTS = 768
WARM_UP = 200
CONTEXT_WEIGHT = 1
"""Loss on everything but the last reply, in tenths of the reply's."""


def schedule(progress: float, step: int) -> float:
    """Return the share of the peak learning rate: linear warm-up, then cosine to 2 %."""
    warm = min(1.0, (step + 1) / WARM_UP)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def optimizers(model: GPTNeoXForCausalLM, name: str, scale: float) -> list[torch.optim.Optimizer]:
    """Return the optimizers: AdamW alone, or Muon for the matrices and AdamW for the rest."""
    matrices = [w for n, w in model.named_parameters() if w.ndim == 2 and "embed" not in n]
    others = [w for n, w in model.named_parameters() if w.ndim != 2 or "embed" in n]
    if name == "adamw":
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        return [torch.optim.AdamW(groups, lr=1.5e-3 * scale, betas=(0.9, 0.98), fused=True)]
    return [
        Muon(matrices, lr=0.015 * scale),
        torch.optim.AdamW(others, lr=2e-3 * scale, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def to_device(batch: Batch) -> tuple[torch.Tensor, ...]:
    """Return ids, targets, weights, positions and starts on the GPU."""

    def move(array: NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
        return torch.from_numpy(array).to("cuda", non_blocking=True).to(dtype)

    return (
        move(batch.ids.astype("int32"), torch.int64),
        move(batch.targets.astype("int32"), torch.int64),
        move(batch.weights, torch.float32) / 10,
        move(batch.positions.astype("int32"), torch.int64),
        move(batch.starts, torch.int32),
    )


def fit(
    model: GPTNeoXForCausalLM, stream: Stream, seconds: float, steps: int, optimizer: str, scale: float = 1.0
) -> dict[str, Any]:
    """Train until the steps or the seconds are used up; return what happened."""
    tools = optimizers(model, optimizer, scale)
    peaks = [[group["lr"] for group in tool.param_groups] for tool in tools]
    loss_of = torch.compile(packed_loss)
    start, step, curve = time.perf_counter(), 0, []
    waited = 0.0
    while (elapsed := time.perf_counter() - start) < seconds and step < steps:
        rate = schedule(max(elapsed / seconds, step / steps), step)
        for tool, peak in zip(tools, peaks, strict=True):
            for group, top in zip(tool.param_groups, peak, strict=True):
                group["lr"] = top * rate
        asked = time.perf_counter()
        batch = to_device(stream.next())
        waited += time.perf_counter() - asked
        with torch.autocast("cuda", torch.bfloat16):
            loss, reply = loss_of(model, *batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for tool in tools:
            tool.step()
            tool.zero_grad(set_to_none=True)
        if step == 0:  # the clock starts when compilation is over
            torch.cuda.synchronize()
            print(f"compiled in {time.perf_counter() - start:.0f} s", flush=True)
            start, waited = time.perf_counter(), 0.0
        if step % 250 == 0:
            took = max(1e-3, time.perf_counter() - start)
            curve.append([step, round(reply.item(), 4)])
            print(
                f"step {step:5} loss {loss.item():.3f} reply {reply.item():.4f} {took:.0f} s, "
                f"waited {waited:.0f} s, {step * LENGTH / took / 1e6:.2f} M tok/s",
                flush=True,
            )
        step += 1
    torch.cuda.synchronize()
    took = time.perf_counter() - start
    return {
        "steps": step,
        "tokens": step * LENGTH,
        "seconds": round(took, 1),
        "optimizer": optimizer,
        "reply_loss": round(reply.item(), 4),
        "curve": curve,
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


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Train both parts and save the model; return what happened in each."""
    if options.start:
        tokenizer = AutoTokenizer.from_pretrained(str(options.start))
        model: Any = GPTNeoXForCausalLM.from_pretrained(str(options.start), dtype=torch.float32)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(options.start / name, options.out / name)
    else:
        tokenizer = train_tokenizer()
        save_tokenizer(tokenizer, options.out)
        model = new_model(len(tokenizer))
    model.to("cuda")
    print(f"{len(tokenizer)} tokens, {sum(w.numel() for w in model.parameters()):,} parameters", flush=True)
    # (name, seconds, share of examples in the order of a search, scale of the learning rate)
    parts = [("mixture", options.seconds, 0.0, 1.0), ("ranked", options.ranked_seconds, 0.8, 0.4)]
    report: dict[str, Any] = {"started_from": str(options.start) if options.start else None}
    for number, (name, seconds, ranked, scale) in enumerate(parts):
        if options.start and name == "mixture":
            continue
        seed = options.seed + 100 * number
        file = options.out / "tokenizer.json"
        stream = Stream(file, options.workers, LENGTH, SLOTS, CONTEXT_WEIGHT, seed, ranked)
        report[name] = fit(model, stream, seconds, options.steps, options.optimizer, scale)
        stream.close()
    save(model, options.out)
    return report


def main() -> None:
    """Run the whole recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=370.0, help="of training; scoring comes on top")
    parser.add_argument(
        "--ranked-seconds", type=float, default=110.0, help="of the last part (corpus/ranking.py)"
    )
    parser.add_argument("--start", type=Path, help="a saved model to begin the last part with")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--optimizer", choices=("muon", "adamw"), default="muon")
    parser.add_argument("--number", type=int, default=400, help="generated dialogues a score is taken from")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    begun = time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    training = train(options)
    print(json.dumps(training), flush=True)
    scores = evaluate(options.out, "cuda", options.number, 200, show="dev") if options.number else {}
    training |= {
        "device": torch.cuda.get_device_name(),
        "total_seconds": round(time.perf_counter() - begun, 1),
    }
    (options.out / "scores.json").write_text(
        json.dumps({"training": training, "scores": scores}, indent=1) + "\n"
    )
    print(json.dumps(scores), flush=True)


if __name__ == "__main__":
    main()
