"""Python values as DynamoDB attributes, exactly, and how many bytes of an item they take.

Not boto3's resource layer: it refuses floats. Here a float travels as the decimal of its shortest
form, which gives the same float back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

if TYPE_CHECKING:
    from types_boto3_dynamodb.type_defs import AttributeValueTypeDef

Item = dict[str, Any]
"""An item in Python values; its numbers are `Decimal`."""

_SMALLEST, _LARGEST = 1e-120, 1e120
_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize
_NAME = re.compile(r"#(\w+)")


def encode(item: Mapping[str, Any]) -> dict[str, AttributeValueTypeDef]:
    """Return an item, or an expression's values, as the client takes them."""
    return {name: _serialize(_exact(value)) for name, value in item.items()}


def decode(attributes: Mapping[str, Any]) -> Item:
    """Return an item of a reply in Python values."""
    return {name: _deserialize(value) for name, value in attributes.items()}


def names(*expressions: str | None) -> dict[str, str]:
    """Return the `ExpressionAttributeNames` of expressions that write every attribute as `#name`.

    All of them, because DynamoDB reserves hundreds of words, `owner` among them.
    """
    return {f"#{name}": name for text in expressions if text for name in _NAME.findall(text)}


def item_bytes(value: object) -> int:
    """Return about how many bytes DynamoDB counts for a value; never fewer than it does."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, (int, float, Decimal)):
        return 21  # the most that a number takes
    if isinstance(value, Mapping):
        return 3 + sum(1 + len(name.encode()) + item_bytes(member) for name, member in value.items())
    if isinstance(value, (list, tuple)):
        return 3 + sum(1 + item_bytes(member) for member in value)
    return 1


def _exact(value: object) -> object:
    if isinstance(value, float):
        # Beyond what a DynamoDB number holds (1e-130 to 1e126) it stands as text: `float` of either
        # is the same number, and that is how `records` reads it.
        in_range = value == 0 or _SMALLEST < abs(value) < _LARGEST
        return Decimal(repr(value)) if in_range else repr(value)
    if isinstance(value, Mapping):
        return {name: _exact(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_exact(member) for member in value]
    return value
