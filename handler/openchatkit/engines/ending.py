"""The end of a process whose model is gone: its host starts a new one, which loads the model again.

DJL Serving does so with a worker that exits, whatever runs the local host may. Not for errors that a
next request might not meet.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

GRACE_S = 2.0
"""For the requests under way to get their error."""
CHILDREN_S = 5.0
"""For the children to end on SIGTERM."""
STOP_S = 30.0
"""For the host to end on SIGTERM; then comes SIGKILL."""

_begun = threading.Lock()


def end_process() -> None:
    """End this process and its children soon; returns at once. A second call does nothing."""
    if not _begun.acquire(blocking=False):
        return
    threading.Thread(target=_end, name="end-process", daemon=True).start()


def _end() -> None:
    time.sleep(GRACE_S)
    # Another model's processes, the judge's beside a chat model, would outlive this one and keep
    # the memory that the next one needs.
    children = multiprocessing.active_children()
    for child in children:
        child.terminate()
    give_up = time.monotonic() + CHILDREN_S
    for child in children:
        child.join(max(give_up - time.monotonic(), 0))
        child.kill()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_S)
    os.kill(os.getpid(), signal.SIGKILL)
