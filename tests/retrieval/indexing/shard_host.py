"""An instance of a job with an encoder that needs no model: `python shard_host.py ROOT`."""

from __future__ import annotations

import sys
from pathlib import Path

from openchatkit.retrieval.indexing import job
from openchatkit.retrieval.indexing.workers import Tools
from tests.retrieval.indexing.hashing import HashingEncoder


def main() -> None:
    job.build_shard(Path(sys.argv[1]), tools=Tools(HashingEncoder))


if __name__ == "__main__":
    main()
