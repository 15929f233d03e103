"""Counting what moderation did: numbers, and log lines that metric filters match."""

from __future__ import annotations

import logging

import pytest

from openchatkit.moderation.counts import Counts
from openchatkit.moderation.policy import ModerationPolicy
from tests.fakes import verdict


@pytest.fixture
def policy() -> ModerationPolicy:
    return ModerationPolicy.load()


def test_an_override_is_counted_and_logged(
    policy: ModerationPolicy, caplog: pytest.LogCaptureFixture
) -> None:
    counts = Counts()
    with caplog.at_level(logging.INFO):
        counts.decided(policy.decide(verdict("needs intervention"), "input"), "input")
    assert counts.decisions == {("input", "needs intervention", "override"): 1}
    assert caplog.messages == [
        "event=override direction=input label=needs_intervention action=override",
    ]


def test_what_is_allowed_is_not(policy: ModerationPolicy, caplog: pytest.LogCaptureFixture) -> None:
    counts = Counts()
    with caplog.at_level(logging.INFO):
        counts.decided(policy.decide(verdict("casual"), "output"), "output")
    assert not counts.decisions
    assert not caplog.messages


def test_a_warning_is_counted_by_its_label(policy: ModerationPolicy) -> None:
    counts = Counts()
    warns = policy.model_copy(update={"labels": {**policy.labels, "casual": "warn"}})
    counts.decided(warns.decide(verdict("casual"), "output"), "output")
    assert counts.decisions == {("output", "casual", "warn"): 1}


def test_a_dry_run_is_told_from_an_override(
    policy: ModerationPolicy, caplog: pytest.LogCaptureFixture
) -> None:
    counts, dry = Counts(), policy.model_copy(update={"dry_run": True})
    with caplog.at_level(logging.INFO):
        counts.decided(dry.decide(verdict("needs intervention"), "output"), "output")
    assert counts.decisions == {("output", "needs intervention", "override"): 1}
    assert caplog.messages == ["event=dry_run direction=output label=needs_intervention action=allow"]


def test_a_judgement_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    counts = Counts()
    with caplog.at_level(logging.INFO):
        counts.judgement_failed("timeout", "TimeoutError")
        counts.passages_withheld("injection", 2)
    assert counts.unavailable == {"timeout": 1}
    assert counts.withheld == {"injection": 2}
    assert caplog.messages[0] == "event=moderation_unavailable reason=timeout type=TimeoutError"
