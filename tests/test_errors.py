"""What went wrong while loading, in one line."""

from __future__ import annotations

from openchatkit.errors import EngineFailed, reason


def test_a_reason_names_the_causes_on_one_line() -> None:
    failed = EngineFailed("the model cannot be loaded")
    failed.__cause__ = OSError("no such\nfile")
    assert reason(failed) == "EngineFailed: the model cannot be loaded; because of OSError: no such file"


def test_a_reason_without_causes() -> None:
    assert reason(ValueError("x")) == "ValueError: x"
