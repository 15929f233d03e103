"""A check and its outcome, and how a list of checks is run: at the same time, none waited for too long."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from client.errors import ClientError

Status = Literal["ok", "wrong", "unknown", "skipped"]

DEADLINE_S = 90.0
"""For all checks together: above the attempts of one AWS call, which the session bounds."""


@dataclass(frozen=True)
class Outcome:
    """What a check found."""

    status: Status
    """`unknown`: the check could not be made; `skipped`: these settings do not need it."""
    detail: str
    advice: str = ""
    """What to do; empty unless something is wrong or unknown."""


@dataclass(frozen=True)
class Check:
    """A named question."""

    name: str
    ask: Callable[[], Outcome]


def ok(detail: str) -> Outcome:
    """Return an outcome that needs nothing done."""
    return Outcome("ok", detail)


def wrong(detail: str, advice: str) -> Outcome:
    """Return an outcome that stands in the way of a deployment."""
    return Outcome("wrong", detail, advice)


def unknown(detail: str, advice: str = "") -> Outcome:
    """Return the outcome of a check that could not be made."""
    return Outcome("unknown", detail, advice)


def skipped(detail: str) -> Outcome:
    """Return the outcome of a check that the settings make needless."""
    return Outcome("skipped", detail)


def run_checks(checks: Sequence[Check], deadline_s: float = DEADLINE_S) -> Iterator[tuple[Check, Outcome]]:
    """Yield each check with its outcome, in order; one that does not end in time is unknown.

    A check that raises `ClientError` is unknown, with that error's line; so is one that fails in a
    way of its own, which is told apart from the others and does not stop them.
    """
    give_up = time.monotonic() + deadline_s
    answers: list[queue.SimpleQueue[Outcome]] = []
    for check in checks:
        answer: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        answers.append(answer)
        # Daemons: what hangs must not keep the command from ending.
        threading.Thread(target=_answer, args=(check, answer), name=check.name, daemon=True).start()
    for check, answer in zip(checks, answers, strict=True):
        try:
            yield check, answer.get(timeout=max(0.0, give_up - time.monotonic()))
        except queue.Empty:
            yield check, unknown(f"no answer within {deadline_s:g} s")


def _answer(check: Check, answer: queue.SimpleQueue[Outcome]) -> None:
    try:
        answer.put(check.ask())
    except ClientError as error:
        answer.put(unknown(str(error)))
    except Exception as error:  # noqa: BLE001 - one check that breaks must not take the others with it
        answer.put(unknown(f"the check itself failed ({type(error).__name__})"))
