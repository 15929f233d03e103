"""A thing of the app that exists in the account, and how to tell whose it is.

A thing is the app's when it carries the tag `openchatkit:app=<name>`. Only where AWS knows no tags,
or makes the thing itself and tags nothing (log groups), its name decides: it must be that of one of
the app's stacks, so that an app `Chat` never takes what belongs to an app `Chat-two`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import boto3
from botocore.exceptions import ClientError as AwsError

from client.aws import code_of
from client.prices import PriceList, load_prices

TAG_READERS = 8
"""Threads that read tags: AWS gives them for one thing a call."""
_GONE = frozenset(
    {"ValidationException", "ResourceNotFoundException", "ResourceNotFound", "NotFoundException", "NotFound"}
    | {"NoSuchBucket", "NoSuchTagSet", "RepositoryNotFoundException", "404", "NoSuchEntity"}
    | {"KMSInvalidStateException"}
)
"""Codes of a thing that vanished while it was looked at, or has no tags."""

_Thing = TypeVar("_Thing")


@dataclass(frozen=True)
class Leftover:
    """One thing that still exists."""

    kind: str
    name: str
    """What its service calls it, as `remove` takes it."""
    detail: str = ""
    usd_month: float | None = 0.0
    """None where the price is not known."""
    expiring: bool = False
    """It goes by itself and costs nothing; there is nothing to remove."""
    holds_data: bool = False
    by_hand: str = ""
    """Why `remove` leaves it alone; empty where it does not."""


@dataclass(frozen=True)
class Scope:
    """Where is swept, and for which app."""

    session: boto3.Session
    app: str
    """The value of the tag."""
    stacks: Sequence[str]
    """Names of the app's stacks, in the order in which they can be deleted."""
    endpoint: str
    """Name of the app's endpoint."""
    tag: str
    prices: PriceList = field(default_factory=load_prices)

    def owns(self, tags: Iterable[Mapping[str, Any]]) -> bool:
        """Tell whether tags name this app; services spell them Key, key or TagKey."""
        for tag in tags:
            fields = {name.lower().removeprefix("tag"): value for name, value in tag.items()}
            if fields.get("key") == self.tag and fields.get("value") == self.app:
                return True
        return False

    def owns_pairs(self, tags: Mapping[str, str]) -> bool:
        """Tell whether tags, as a mapping, name this app."""
        return tags.get(self.tag) == self.app

    def owns_name(self, name: str) -> bool:
        """Tell whether a name is one that CloudFormation makes for one of the app's stacks."""
        return any(name == stack or name.startswith(f"{stack}-") for stack in self.stacks)

    def owned(
        self, things: Iterable[_Thing], tags_of: Callable[[_Thing], Iterable[Mapping[str, Any]]]
    ) -> Iterator[_Thing]:
        """Yield those of `things` whose tags name this app; a thing that vanished is none of them."""

        def is_owned(thing: _Thing) -> bool:
            try:
                return self.owns(tags_of(thing))
            except AwsError as error:
                if code_of(error) in _GONE:
                    return False
                raise

        listed = list(things)
        with ThreadPoolExecutor(TAG_READERS) as readers:
            for thing, mine in zip(listed, readers.map(is_owned, listed), strict=True):
                if mine:
                    yield thing


class Kind(Protocol):
    """One kind of thing: how to find the app's, how to remove one."""

    title: str

    def find(self) -> Iterator[Leftover]:
        """Yield what there is; boto3's errors pass through."""
        ...

    def remove(self, leftover: Leftover) -> None:
        """Remove one, with what it holds; it may be gone already. boto3's errors pass through."""
        ...


def size(amount: float) -> str:
    """Return a size in bytes for people."""
    for unit in ("B", "KB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
