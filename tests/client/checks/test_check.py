"""Running checks: in order, none waited for too long, none stopping the others."""

from __future__ import annotations

import threading

from client.checks.check import Check, Outcome, ok, run_checks
from client.errors import CallFailed


def fail() -> Outcome:
    raise CallFailed("not allowed to call GetThing")


def crash() -> Outcome:
    raise ZeroDivisionError("secret detail")


def test_each_outcome_in_order() -> None:
    checks = [
        Check("a", lambda: ok("fine")),
        Check("b", fail),
        Check("c", crash),
        Check("d", lambda: ok("too")),
    ]
    outcomes = [(check.name, outcome.status, outcome.detail) for check, outcome in run_checks(checks)]
    assert outcomes == [
        ("a", "ok", "fine"),
        ("b", "unknown", "not allowed to call GetThing"),
        ("c", "unknown", "the check itself failed (ZeroDivisionError)"),
        ("d", "ok", "too"),
    ]


def test_one_that_hangs_is_given_up_and_the_others_are_not_lost() -> None:
    release = threading.Event()

    def hang() -> Outcome:
        release.wait()
        return ok("late")

    try:
        checks = [Check("hangs", hang), Check("answers", lambda: ok("fine"))]
        outcomes = {check.name: outcome for check, outcome in run_checks(checks, deadline_s=0.5)}
        assert outcomes["hangs"].status == "unknown"
        assert outcomes["hangs"].detail == "no answer within 0.5 s"
        assert outcomes["answers"] == ok("fine")
    finally:
        release.set()
