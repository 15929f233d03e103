from __future__ import annotations

import logging
import threading

import pytest

from staging.progress import Counter, Progress, size_text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (41_112_854_242, "41.1 GB"), (10**18, "1000000.0 TB")],
)
def test_sizes_for_people(size: float, text: str) -> None:
    assert size_text(size) == text


def test_rate_and_time_left() -> None:
    counter = Counter()
    counter.add(1_000_000)
    with Progress("downloaded", 10_000_000, counter, interval_s=60) as progress:
        assert progress.line(done=4_000_000, elapsed_s=2) == (
            "downloaded 4.0 MB of 10.0 MB, 1.5 MB/s, 0:04 min left"
        )
        assert progress.line(done=1_000_000, elapsed_s=0) == "downloaded 1.0 MB of 10.0 MB, 0 B/s"


def test_lines_come_while_it_runs_and_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "staging")
    asked = threading.Event()
    seen: list[None] = []

    def done() -> int:
        seen.append(None)
        if len(seen) > 2:
            asked.set()
        return 50 if len(seen) < 4 else 200  # more than all: a file counted twice

    with Progress("uploaded", 100, done, interval_s=0.01):
        assert asked.wait(60)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("uploaded 50 B of 100 B")
    assert lines[-1].startswith("uploaded 100 B of 100 B")


def test_a_counter_of_many_threads() -> None:
    counter = Counter()

    def count() -> None:
        for _ in range(10_000):
            counter.add(1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter() == 40_000
