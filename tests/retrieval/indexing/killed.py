"""A build that kills itself at the COUNT-th turn of a STEP: `python killed.py SRC DIR STEP COUNT`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from openchatkit.retrieval.indexing import builder, steps
from openchatkit.retrieval.indexing.workers import Tools
from tests.retrieval.indexing.hashing import HashingEncoder


def main() -> None:
    source, folder, step, count = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    steps.SLICE = 16
    # As the tests' own builds have them.
    vars(builder).update(BLOCK_ROWS=32, PART_ITEMS=1)
    encoder = HashingEncoder()
    seen = 0

    def progress(now: str, done: int, total: int) -> None:
        nonlocal seen
        seen += now == step
        if seen == count:
            os.kill(os.getpid(), signal.SIGKILL)

    builder.build_index([source], folder, tools=Tools(lambda: encoder), progress=progress)
    sys.stdout.write(f"{len(encoder.asked)}\n")


if __name__ == "__main__":
    main()
