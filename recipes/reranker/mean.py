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
    mean = {}
    for name, first in runs[0].items():
        before = base.get(name, torch.zeros_like(first)).float()
        # The mean of the changes, not of the weights: what no run changed stays the same to the last bit.
        mean[name] = before + torch.stack([run[name] - before for run in runs]).mean(0)
    options.out.mkdir(parents=True, exist_ok=True)
    save_difference(options.out / FILE, base, mean)


if __name__ == "__main__":
    main()
