"""Findings of cdk-nag that stay, each with its reason; nothing is acknowledged for a whole app.

cdk-nag names a finding by its rule and, where a rule can find several things, by what it found, as text
with CloudFormation's references in angle brackets. The functions here write that text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_cdk import Acknowledgment, CfnElement, Stack, Validations
from constructs import IConstruct


def acknowledge(construct: IConstruct, reasons: Mapping[str, str]) -> None:
    """Acknowledge findings of a construct and what is below it: reasons by finding."""
    Validations.of(construct).acknowledge(
        *(Acknowledgment(id=f"AwsSolutions-{finding}", reason=reason) for finding, reason in reasons.items())
    )


def resource_finding(scope: IConstruct, resource: str, owner: Stack | None = None) -> str:
    """Return the finding of a wildcard at the end of a resource.

    Args:
        scope: where the policy is.
        resource: the ARN without its wildcard, perhaps a token.
        owner: the stack that the token is from, where it is another one.
    """
    stack = Stack.of(scope)
    if owner is not None and owner is not stack:
        # The name of the export, which the reference becomes.
        resource = owner.export_value(resource)
    return f"IAM5[Resource::{_text(stack.resolve(resource))}"


def logical_id(construct: IConstruct) -> str:
    """Return the name that a construct's resource has in its template."""
    resource = construct.node.default_child
    if not isinstance(resource, CfnElement):
        raise TypeError(f"{construct.node.path} is no resource")
    return str(Stack.of(construct).resolve(resource.logical_id))


def _text(resolved: Any) -> str:  # noqa: ANN401 - a template's value
    match resolved:
        case str():
            return resolved
        case {"Ref": str(name)}:
            return f"<{name}>"
        case {"Fn::GetAtt": [str(name), str(attribute)]}:
            return f"<{name}.{attribute}>"
        case {"Fn::ImportValue": str(name)}:
            return name
        case {"Fn::Join": [str(separator), list(parts)]}:
            return separator.join(map(_text, parts))
    raise TypeError(f"cdk-nag's text of {resolved} is not known")
