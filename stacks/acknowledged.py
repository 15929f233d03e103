"""Findings of cdk-nag that stay, each with its reason; nothing is acknowledged for a whole app."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Acknowledgment, Validations
from constructs import IConstruct


def acknowledge(construct: IConstruct, reasons: Mapping[str, str]) -> None:
    """Acknowledge findings of a construct and what is below it: reasons by finding.

    A finding is a rule's id, with what it found in brackets where a rule can find several things.
    """
    Validations.of(construct).acknowledge(
        *(Acknowledgment(id=finding, reason=reason) for finding, reason in reasons.items())
    )
