"""Measure on one GPU: roofline, vLLM alone, our whole turn, the seed's way; see README.md.

    PYTHONPATH=handler python -m bench.gpu [--parts ...] [--out figures.jsonl] [--quick]
    PYTHONPATH=handler python -m bench.gpu --dry-run [vllm]     # every line of it, tiny, on a CPU

Figures are printed at once and appended to `--out`; the tables, the plot and the last line of JSON are
made of all that the file holds, so parts may be measured in several calls.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "handler"))

from bench.gpu import parts
from bench.gpu.figures import Recorder, plot, tables, targets

ON_ONE_PAIR = ("vllm", "turn", "conversation")
PARTS = ("roofline", "seed", "judge", *ON_ONE_PAIR, "fp8", "ngram")
THREADS = 8
"""Of the sentence encoder; vLLM's processes and the event loop want their cores."""


def main() -> None:
    """Measure what is asked for and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--out", type=Path, help="JSON lines are appended to this file")
    parser.add_argument("--plot", type=Path, help="a PNG of tokens/s, where matplotlib is installed")
    parser.add_argument("--clients", type=int, nargs="+", help="instead of 1 16 64 256")
    parser.add_argument("--lengths", type=int, nargs="*", help="tokens of further prompts, not 256 1536")
    parser.add_argument("--judge", choices=("fp16", "fp8"), default="fp16", help="the judge's weights")
    parser.add_argument(
        "--questions", choices=("before", "beside"), default="before", help="the setting moderation_input"
    )
    parser.add_argument("--folder", type=Path, help="of configurations: compiled graphs are found again")
    parser.add_argument("--quick", action="store_true", help="1 and 64 clients, fewer requests")
    parser.add_argument(
        "--dry-run", nargs="?", const="transformers", choices=("transformers", "vllm"), help="tiny, on a CPU"
    )
    options = parser.parse_args()
    wanted = options.parts.split(",")
    if unknown := [part for part in wanted if part not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}")
    scale = parts.QUICK if options.quick else parts.FULL
    if options.dry_run:
        scale = replace(parts.DRY, backend=options.dry_run)
    elif not torch.cuda.is_available():
        parser.error("there is no GPU here; --dry-run measures nothing and runs everything")
    if options.clients:
        scale = replace(scale, clients=tuple(options.clients))
    scale = replace(scale, folder=options.folder, moderation_input=options.questions)
    if options.judge == "fp8" and scale.device == "cuda":
        scale = replace(scale, judge_quantization="fp8")
    if options.lengths is not None:
        scale = replace(scale, other_prompts=tuple(options.lengths))
    logging.getLogger("openchatkit").setLevel(logging.ERROR)  # the policy's dry run notes every verdict
    torch.set_num_threads(min(THREADS, os.cpu_count() or 1))
    record = Recorder(options.out)
    failed = asyncio.run(measure(wanted, scale, record))
    print(tables(record.figures))
    if options.plot and not plot(record.figures, options.plot):
        record.say("no plot: matplotlib is not installed")
    print(
        json.dumps(
            {
                "bench": "gpu",
                "device": torch.cuda.get_device_name() if scale.device == "cuda" else platform.machine(),
                "dry_run": options.dry_run,
                "torch": torch.__version__,
                "targets": {
                    each.name: [round(each.measured, 4), each.met] for each in targets(record.figures)
                },
                "figures": len(record.figures),
                "failed": failed,
            }
        )
    )
    sys.exit(1 if failed else 0)


async def measure(wanted: list[str], scale: parts.Scale, record: Recorder) -> list[str]:
    """Run the parts in the order of `PARTS` and return those that failed; the others run all the same."""
    failed = []
    pair = [part for part in ON_ONE_PAIR if part in wanted]
    steps = [part for part in PARTS if part in wanted and part not in pair[1:]]
    for part in steps:
        began = time.monotonic()
        try:
            if part in ON_ONE_PAIR:
                await parts.fp16(scale, record, pair)
            else:
                await getattr(parts, part)(scale, record)
        except Exception as error:  # noqa: BLE001 - the next part may work; the run ends with a failure
            failed.append(part)
            record.say(f"{part} FAILED")
            traceback.print_exception(error)
        record.say(f"{part} took {time.monotonic() - began:.0f} s")
    return failed


if __name__ == "__main__":
    main()
