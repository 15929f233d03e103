"""The process that reads dangerous files: `python -m openchatkit.retrieval.indexing.reading_process BYTES`.

A line `{"path", "name"}` on standard input asks for a file; lines `{"document"}` on standard output
answer, and one `{"problem"}` ends them: null, or why the file was left out. It ends with its input.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from openchatkit.retrieval.blocks import UnreadableDocument
from openchatkit.retrieval.indexing.reading import json_of, read_file


def limit_memory(most: int) -> None:
    """Let allocations fail beyond a limit, in bytes, where the system can."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Serve requests until the input ends."""
    limit_memory(int(sys.argv[1]))
    # Libraries in C write where they like; only answers go to the real standard output.
    output = os.fdopen(os.dup(1), "wb", buffering=1 << 16)
    os.dup2(2, 1)

    def answer(values: dict[str, Any]) -> None:
        output.write(json.dumps(values).encode() + b"\n")

    for line in sys.stdin.buffer:
        request = json.loads(line)
        problem: str | None = None
        try:
            for document in read_file(Path(request["path"]), request["name"]):
                answer({"document": json_of(document)})
        except UnreadableDocument as error:
            problem = str(error)
        except MemoryError:
            problem = "needs too much memory"
        except Exception as error:  # noqa: BLE001 - a parser may fail in any way on a file from anywhere
            problem = f"broken ({type(error).__name__})"
        answer({"problem": problem})
        output.flush()


if __name__ == "__main__":
    main()
