"""The mean of several trainings from the same start: better than each, and less extreme.

python3 -m recipes.reranker.mean DIR DIR ... --out DIR
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from openchatkit.retrieval.difference import FILE, save_difference, with_difference
from openchatkit.retrieval.reranker import untrained


def main() -> None:
    """Average from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    _, base = untrained()
    runs = [with_difference(run / FILE, base) for run in options.runs]
    mean = {name: torch.stack([run[name] for run in runs]).mean(0) for name in runs[0]}
    options.out.mkdir(parents=True, exist_ok=True)
    save_difference(options.out / FILE, base, mean)


if __name__ == "__main__":
    main()
