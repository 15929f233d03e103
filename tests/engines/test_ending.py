"""How a process ends whose model is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

HANDLER = Path(__file__).parents[2] / "handler"
PROGRAM = """
    import multiprocessing, signal, sys, threading, time
    from openchatkit.engines import ending

    if __name__ == "__main__":
        ending.GRACE_S, ending.CHILDREN_S, ending.STOP_S = 0.3, 0.5, 0.3
        if sys.argv[1] == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
        child.start()
        print(child.pid, flush=True)
        ending.end_process()
        ending.end_process()
        print("still here", flush=True)
        time.sleep(60)
"""


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # Not reaped yet by whoever inherited it.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(("way", "status"), [("hears", signal.SIGTERM), ("deaf", signal.SIGKILL)])
def test_the_process_and_its_children_end(tmp_path: Path, way: str, status: signal.Signals) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    run = subprocess.run(
        [sys.executable, str(program), way],
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": str(HANDLER)},
    )
    assert run.returncode == -status
    child, *rest = run.stdout.split("\n", 1)
    assert rest == ["still here\n"]  # what was under way could end
    give_up = time.monotonic() + 10
    while not gone(int(child)):
        assert time.monotonic() < give_up
        time.sleep(0.05)
