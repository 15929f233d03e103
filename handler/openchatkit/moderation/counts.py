"""What moderation did, as numbers and as log lines of `name=value`, never with a text.

The lines are what metric filters of a log group match, so their words are a contract:

    event=override direction=input label=needs_caution action=override
    event=moderation_unavailable reason=timeout

A dry run writes `event=dry_run` in place of `event=override`. The numbers are those of this process
since its start. This is not an audit: who said what is stored with the turn.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Literal

from openchatkit.moderation.policy import Action, Decision
from openchatkit.ports import Direction

Reason = Literal["timeout", "failed", "nonsense"]

_logger = logging.getLogger(__name__)


class Counts:
    """Counters of one process. Its methods belong to one event loop."""

    def __init__(self) -> None:
        self.decisions: Counter[tuple[Direction, str, Action]] = Counter()
        """Warnings and overrides, by direction, label and what the rules said, in a dry run too."""
        self.unavailable: Counter[Reason] = Counter()
        """Judgements that could not be had; each blocked a text."""
        self.withheld: Counter[str] = Counter()
        """Passages kept from the prompt, by reason: `injection`, `harm`, `unavailable`."""

    def decided(self, decision: Decision, direction: Direction) -> None:
        """Note a decision about a whole question or a whole reply."""
        if decision.ruled == "allow":
            return
        label = decision.verdict.label
        self.decisions[direction, label, decision.ruled] += 1
        if decision.ruled == "override":
            event = "override" if decision.blocked else "dry_run"
            _logger.warning(
                "event=%s direction=%s label=%s action=%s",
                event,
                direction,
                label.replace(" ", "_"),
                decision.action,
            )

    def judgement_failed(self, reason: Reason, kind: str) -> None:
        """Note that no verdict could be had. `kind` is the exception's type, for the log."""
        self.unavailable[reason] += 1
        _logger.warning("event=moderation_unavailable reason=%s type=%s", reason, kind)

    def passages_withheld(self, reason: str, number: int) -> None:
        """Note passages that do not reach the prompt."""
        self.withheld[reason] += number
        _logger.warning("event=passages_withheld reason=%s number=%d", reason, number)
