"""Progress as lines: what is done of what, the rate, the time left.

Lines rather than a bar, because CodeBuild's log keeps every redraw.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType

logger = logging.getLogger(__name__)

INTERVAL_S = 10.0
UNITS = ("B", "kB", "MB", "GB", "TB")


def size_text(size: float) -> str:
    """Return a size in bytes for people, in powers of 1000."""
    for unit in UNITS:
        if size < 1000 or unit == UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


class Counter:
    """A number of bytes that several threads add to."""

    def __init__(self) -> None:
        self._value = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Add to it."""
        with self._lock:
            self._value += count

    def __call__(self) -> int:
        """Return it."""
        return self._value


class Progress:
    """Logs a line every `interval_s` while its block runs, and one at its end.

    Args:
        verb: what is going on, e.g. "downloaded".
        total: bytes in all.
        done: returns the bytes done so far; it is called in a thread of its own.
    """

    def __init__(
        self, verb: str, total: int, done: Callable[[], int], *, interval_s: float = INTERVAL_S
    ) -> None:
        self._verb, self._total, self._done, self._interval_s = verb, total, done, interval_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Progress:
        self._start, self._at_start = time.monotonic(), self._done()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._log()

    def line(self, *, done: int, elapsed_s: float) -> str:
        """Return the line for so many bytes after so many seconds."""
        rate = (done - self._at_start) / elapsed_s if elapsed_s > 0 else 0.0
        text = f"{self._verb} {size_text(done)} of {size_text(self._total)}, {size_text(rate)}/s"
        if rate > 0 and done < self._total:
            left = (self._total - done) / rate
            text += f", {int(left) // 60}:{int(left) % 60:02d} min left"
        return text

    def _run(self) -> None:
        while not self._over.wait(self._interval_s):
            self._log()

    def _log(self) -> None:
        # A download that is being moved into place may be counted twice for a moment.
        done = min(self._done(), self._total)
        logger.info("%s", self.line(done=done, elapsed_s=time.monotonic() - self._start))
