"""Conversations in a DynamoDB table.

One item a turn, and turn 0 is the session's header (`dynamodb_table` has the keys). The header is
the authority: a turn exists if the header is live and its number is at most the header's
`last_turn`. Every turn is written in one transaction with the header's update, whose condition is
the `revision` that the writer saw, so a turn is stored whole or not at all, two writers of one
number cannot both succeed, and a deleted session cannot grow turns. Readers compare the revision
before and after.

Turns behind `last_turn` are what `replace` dropped: out of sight at once, whatever their number,
and removed right after, the highest first. If that is cut short, the next writer finds the lowest
one in its way and removes the rest.

Expiry: each write renews the header's `expires_at`; a header past it is treated as gone, however
late DynamoDB deletes it. DynamoDB deletes item by item, so a turn's `expires_at` lies beyond its
header's by a slack, the header keeps the lowest one in `turns_expire_at`, and a write that would
take the header past that renews all turns first. Turns thus outlive their header by at most the
slack, and never the other way round. `turns` checks that no number is missing all the same.

A header that is not listed has no `updated_at`, which keeps it out of the index of owners; the first
turn sets it.

Reads of a session are consistent. The list of an owner's sessions comes from an index, which
follows within moments.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

from openchatkit.errors import Conflict, InvalidRequest, SessionNotFound, StoreUnavailable
from openchatkit.ports import UNTITLED, Feedback, Session, SessionPage, Turn
from openchatkit.stores.cursor import decode_cursor, encode_cursor
from openchatkit.stores.dynamodb_items import Item, encode, item_bytes
from openchatkit.stores.dynamodb_table import (
    MAX_CONCURRENT_CALLS,
    OWNER_INDEX,
    Table,
    client_config,
    create_table_if_missing,
    pause,
)
from openchatkit.stores.records import check_storable, feedback_record, turn_from, turn_record
from openchatkit.stores.threaded import OPENING_S, SECONDS_A_DAY, Clock, ThreadedStore

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

__all__ = ["DynamoDbStore", "client_config"]

_logger = logging.getLogger(__name__)

MAX_TURN_BYTES = 390 * 1024
"""Most that a turn may take of DynamoDB's 400 KB an item; the rest is for a feedback's comment."""
MAX_SLACK_DAYS = 7
MAX_TRIES = 6
"""Times that a write or a read starts anew because the session changed under it."""

_UNEXPIRED = "(attribute_not_exists(#expires_at) OR #expires_at > :now)"
_LIVE = f"attribute_exists(#session_id) AND {_UNEXPIRED}"
_OPEN = f"{_LIVE} AND attribute_not_exists(#deleting)"
_HEADER = 0
"""Place of the header's update in a turn's transaction."""


class DynamoDbStore(ThreadedStore):
    """`ConversationStore` in a DynamoDB table.

    Args:
        client: a boto3 client made with `client_config()`; `close` closes it.
        table_name: the table.
        retention_days: days after the last turn that a conversation is kept; None keeps it. A new
            value counts from a conversation's next turn.
        clock: what time it is.
    """

    def __init__(
        self,
        client: DynamoDBClient,
        *,
        table_name: str,
        retention_days: int | None,
        clock: Clock = time.time,
    ) -> None:
        # At DEBUG botocore logs whole requests, and these hold what people said.
        logger = logging.getLogger("botocore")
        logger.setLevel(max(logger.level, logging.INFO))
        self._client = client
        self._table_name = table_name
        super().__init__(
            ThreadPoolExecutor(max_workers=MAX_CONCURRENT_CALLS, thread_name_prefix="dynamodb-store"),
            _Conversations(client, table_name, retention_days, clock),
        )

    def create_table_if_missing(self) -> None:
        """Create the table where no stack owns it. Blocks until it can be used.

        Raises:
            StoreUnavailable: it could not be created, or a table of this name has other keys.
        """
        create_table_if_missing(self._client, self._table_name)


class _Conversations:
    """The blocking side; used by several threads at once."""

    def __init__(
        self, client: DynamoDBClient, table_name: str, retention_days: int | None, clock: Clock
    ) -> None:
        self._client = client
        self._table = Table(client, table_name)
        self._retention_s = None if retention_days is None else retention_days * SECONDS_A_DAY
        self._clock = clock

    def create(self, session: Session, listed: bool) -> None:
        fields = dataclasses.asdict(session)
        check_storable(fields)
        expires_at, _ = self._expiries()
        if not listed:
            # An item without a key of the index is not in it.
            fields["updated_at"] = None
            expires_at = int(self._clock()) + OPENING_S
        header = _present({**fields, "turn": 0, "last_turn": 0, "revision": 0, "expires_at": expires_at})
        # A transaction of one: it carries a token, so a repeat after a lost reply is no conflict.
        put = self._table.put_operation(header, "attribute_not_exists(#session_id)")
        if not self._table.transact(put):
            return
        if self._header(session.session_id) is not None:
            raise Conflict("a session with this id exists")
        self.delete(session.session_id)  # one that has expired
        if self._table.transact(put):
            raise Conflict("a session with this id exists")

    def session(self, session_id: str) -> Session | None:
        header = self._header(session_id)
        return None if header is None else _session(header)

    def sessions(self, owner: str, limit: int, cursor: str | None) -> SessionPage:
        start = {}
        if cursor is not None:
            updated_at, session_id = decode_cursor(owner, cursor)
            last_seen = {"session_id": session_id, "turn": 0, "owner": owner, "updated_at": updated_at}
            start = {"ExclusiveStartKey": encode(last_seen)}
        headers = self._table.query(
            "#owner = :owner",
            {":owner": owner, ":now": self._clock()},
            IndexName=OWNER_INDEX,
            ScanIndexForward=False,
            FilterExpression=_UNEXPIRED,
            Limit=limit + 1,
            **start,
        )
        found = [_session(header) for header in islice(headers, limit + 1)]
        page = tuple(found[:limit])
        if len(found) <= limit or not page:
            return SessionPage(page)
        return SessionPage(page, encode_cursor(owner, (page[-1].updated_at, page[-1].session_id)))

    def rename(self, session_id: str, title: str) -> None:
        check_storable(title)
        # With another revision a first turn that is being written sees the title, and leaves it.
        update = "SET #title = :value, #revision = #revision + :one"
        if not self._update_header(session_id, update, {":value": title, ":one": 1}):
            raise SessionNotFound("no such session")

    def set_cancel_mark(self, session_id: str, mark: str) -> None:
        # Where the session is gone there is nothing left to stop.
        self._update_header(session_id, "SET #cancel_mark = :value", {":value": mark})

    def delete(self, session_id: str) -> None:
        # Closed, emptied, removed, in this order: no writer can add a turn behind the removal, and
        # if it is cut short the session is still there to be deleted again.
        self._table.update(
            _key(session_id), "SET #deleting = :yes", "attribute_exists(#session_id)", {":yes": True}
        )
        self._table.delete_all([_key(session_id, number) for number, _ in self._turn_ids(session_id, 1)])
        self._table.delete(_key(session_id))

    def turns(self, session_id: str, limit: int, before: int | None) -> list[Turn]:
        if limit <= 0:
            return []
        for attempt in range(MAX_TRIES):
            header = self._header(session_id)
            if header is None or "deleting" in header:
                return []
            last = int(header["last_turn"])
            last = last if before is None else min(last, before - 1)
            items = self._items(session_id, max(last - limit, 0) + 1, last)
            now = self._header(session_id)
            if now is not None and "deleting" not in now and now["revision"] == header["revision"]:
                if len(items) == min(limit, max(last, 0)):
                    return [turn_from(session_id, int(item["turn"]), item) for item in items]
                _logger.warning("a session has %d turns where there should be more", len(items))
            pause(attempt)
        raise StoreUnavailable("turns of the session are missing, or change too fast to be read")

    def append(self, turn: Turn, title: str | None) -> None:
        check_storable(title)
        for attempt in range(MAX_TRIES):
            header = self._header(turn.session_id)
            if header is None or "deleting" in header:
                raise SessionNotFound("no such session")
            if header["last_turn"] != turn.number - 1:
                raise Conflict("the turn is not the next one of its session")
            new_title = title if header["title"] == UNTITLED else None
            failed = self._write_turn(header, turn, new_title, "attribute_not_exists(#turn)", {})
            if not failed:
                return
            if _HEADER not in failed:
                self._drop_turns(turn.session_id, turn.number)
            pause(attempt)
        raise Conflict("the session is being changed by others")

    def replace(self, turn: Turn, expected: str) -> None:
        for attempt in range(MAX_TRIES):
            header = self._header(turn.session_id)
            if header is None or "deleting" in header or not 1 <= turn.number <= header["last_turn"]:
                raise Conflict("the turn to be replaced is gone")
            failed = self._write_turn(header, turn, None, "#request_id = :expected", {":expected": expected})
            if not failed:
                # Out of sight already. What this fails to remove, the next writer will.
                with contextlib.suppress(StoreUnavailable):
                    self._drop_turns(turn.session_id, turn.number + 1)
                return
            if _HEADER not in failed:
                raise Conflict("the turn to be replaced is another one by now")
            pause(attempt)
        raise Conflict("the session is being changed by others")

    def set_feedback(self, session_id: str, number: int, feedback: Feedback | None) -> bool:
        record = feedback_record(feedback)
        check_storable(record)
        if number < 1:
            return False
        exists = self._table.check_operation(
            _key(session_id),
            f"{_OPEN} AND #last_turn >= :number",
            {":now": self._clock(), ":number": number},
        )
        update = self._table.update_operation(
            _key(session_id, number),
            "SET #feedback = :feedback",
            "attribute_exists(#turn)",
            {":feedback": record},
        )
        return not self._table.transact(exists, update)

    def close(self) -> None:
        self._client.close()

    def _header(self, session_id: str) -> Item | None:
        header = self._table.get(_key(session_id))
        if header is None or ("expires_at" in header and header["expires_at"] <= self._clock()):
            return None
        return header

    def _update_header(self, session_id: str, update: str, values: Item) -> bool:
        return self._table.update(_key(session_id), update, _OPEN, {**values, ":now": self._clock()})

    def _write_turn(
        self, header: Item, turn: Turn, title: str | None, condition: str, values: Item
    ) -> Sequence[int]:
        """Put a turn and make it the newest; return the places of what did not hold."""
        expires_at, turn_expires_at = self._expiries()
        item = _turn_item(turn, turn_expires_at)
        turns_expire_at = header.get("turns_expire_at")
        if header["last_turn"] == 0:
            turns_expire_at = turn_expires_at
        elif _expire_apart(expires_at, turns_expire_at):
            self._renew_turns(turn.session_id, turn_expires_at)
            turns_expire_at = turn_expires_at
        sets = _present(
            {
                "last_turn": turn.number,
                "revision": header["revision"] + 1,
                "updated_at": turn.created_at,
                "title": title,
                "expires_at": expires_at,
                "turns_expire_at": turns_expire_at,
            }
        )
        update = "SET " + ", ".join(f"#{name} = :new_{name}" for name in sets)
        if expires_at is None:
            update += " REMOVE #expires_at, #turns_expire_at"
        return self._table.transact(
            self._table.update_operation(
                _key(turn.session_id),
                update,
                f"{_OPEN} AND #revision = :seen",
                {
                    **{f":new_{name}": value for name, value in sets.items()},
                    ":seen": header["revision"],
                    ":now": self._clock(),
                },
            ),
            self._table.put_operation(item, condition, values),
        )

    def _expiries(self) -> tuple[int | None, int | None]:
        """Return when a header and a turn that are written now expire, in seconds since the epoch."""
        if self._retention_s is None:
            return None, None
        expires_at = int(self._clock()) + self._retention_s
        slack = min(max(self._retention_s // 10, SECONDS_A_DAY), MAX_SLACK_DAYS * SECONDS_A_DAY)
        return expires_at, expires_at + slack

    def _renew_turns(self, session_id: str, expires_at: int | None) -> None:
        """Give all turns another expiry. One by one: it happens once in a slack's time at most."""
        update = "REMOVE #expires_at" if expires_at is None else "SET #expires_at = :expires_at"
        values = _present({":expires_at": expires_at})
        for number, _ in self._turn_ids(session_id, 1):
            self._table.update(_key(session_id, number), update, "attribute_exists(#turn)", values)

    def _items(self, session_id: str, first: int, last: int) -> list[Item]:
        """Return a range of turns, oldest first."""
        if last < first:
            return []
        between = {":id": session_id, ":first": first, ":last": last}
        condition = "#session_id = :id AND #turn BETWEEN :first AND :last"
        return list(self._table.query(condition, between, ConsistentRead=True))

    def _turn_ids(self, session_id: str, first: int) -> list[tuple[int, str]]:
        """Return number and request id of the turns from one on, those out of sight included."""
        items = self._table.query(
            "#session_id = :id AND #turn >= :first",
            {":id": session_id, ":first": first},
            ProjectionExpression="#turn, #request_id",
            ConsistentRead=True,
        )
        return [(int(item["turn"]), str(item.get("request_id"))) for item in items]

    def _drop_turns(self, session_id: str, first: int) -> None:
        """Remove the turns from one on that are out of sight."""
        # Listed first, judged by the header after: what it does not count by then it never will,
        # while a turn that another writer puts there meanwhile has another id.
        listed = self._turn_ids(session_id, first)
        header = self._header(session_id)
        if header is None:
            return
        for number, request_id in reversed(listed):
            if number > header["last_turn"]:
                dropped = {":dropped": request_id}
                self._table.delete(_key(session_id, number), "#request_id = :dropped", dropped)


def _key(session_id: str, number: int = 0) -> Item:
    return {"session_id": session_id, "turn": number}


def _session(header: Item) -> Session:
    try:
        return Session(
            session_id=header["session_id"],
            owner=header["owner"],
            title=header["title"],
            created_at=float(header["created_at"]),
            updated_at=float(header["updated_at" if "updated_at" in header else "created_at"]),
            cancel_mark=header.get("cancel_mark"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreUnavailable("a stored session cannot be read") from error


def _turn_item(turn: Turn, expires_at: int | None) -> Item:
    item = {**turn_record(turn), **_key(turn.session_id, turn.number), "expires_at": expires_at}
    if item_bytes(item) > MAX_TURN_BYTES:
        # Not `StoreUnavailable`: that invites to try again, and the same turn will never fit.
        raise InvalidRequest(f"the turn takes more than the {MAX_TURN_BYTES} bytes that can be stored")
    return _present(item)


def _expire_apart(header: int | None, turns: object) -> bool:
    """Tell whether turns would go before a header that expires then, or stay for ever after it."""
    if header is None or turns is None:
        return header is not turns
    return int(str(turns)) < header


def _present(item: Item) -> Item:
    """Without what is None: an attribute that is not there says the same in fewer bytes."""
    return {name: value for name, value in item.items() if value is not None}
