"""The conversations' table: its keys, the client's settings, and the calls that `dynamodb` makes.

The table has `session_id` (hash, text) and `turn` (range, number), an index of headers by owner and
`updated_at`, and `expires_at` for DynamoDB's time to live. On AWS a stack owns it;
`create_table_if_missing` is for machines where none does. Encryption, backups (point in time
recovery) and deletion protection are the stack's matter.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from openchatkit.errors import StoreUnavailable
from openchatkit.stores.dynamodb_items import Item, decode, encode, names

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

OWNER_INDEX = "owner-updated_at-index"
MAX_CONCURRENT_CALLS = 32
"""Calls to DynamoDB at once, of one store: its threads, and its client's connections."""
MAX_BATCH = 25
"""DynamoDB's own bound on a batch write."""
MAX_ATTEMPTS = 6
"""Tries of a call that met another transaction, or of a batch that was not taken whole."""
_FIRST_DELAY_S = 0.025
_RETRIED = frozenset(
    {
        "TransactionConflict",
        "TransactionConflictException",
        "TransactionInProgressException",
        "ThrottlingError",
        "ProvisionedThroughputExceeded",
    }
)
_CONDITION_FAILED = frozenset({"ConditionalCheckFailed", "ConditionalCheckFailedException"})

_logger = logging.getLogger(__name__)


def client_config() -> Config:
    """Return the settings of the client: a table that does not answer is given up after about 9 s."""
    return Config(
        connect_timeout=2,
        read_timeout=3,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=MAX_CONCURRENT_CALLS,
        tcp_keepalive=True,
    )


def create_table_if_missing(client: DynamoDBClient, table_name: str) -> None:
    """Create the table, wait until it can be used, and switch its time to live on. Blocking.

    Raises:
        StoreUnavailable: it could not be created, or a table of this name has other keys.
    """
    with translated():
        try:
            client.create_table(
                TableName=table_name,
                BillingMode="PAY_PER_REQUEST",
                KeySchema=[
                    {"AttributeName": "session_id", "KeyType": "HASH"},
                    {"AttributeName": "turn", "KeyType": "RANGE"},
                ],
                AttributeDefinitions=[
                    {"AttributeName": "session_id", "AttributeType": "S"},
                    {"AttributeName": "turn", "AttributeType": "N"},
                    {"AttributeName": "owner", "AttributeType": "S"},
                    {"AttributeName": "updated_at", "AttributeType": "N"},
                ],
                GlobalSecondaryIndexes=[
                    {
                        "IndexName": OWNER_INDEX,
                        "KeySchema": [
                            {"AttributeName": "owner", "KeyType": "HASH"},
                            {"AttributeName": "updated_at", "KeyType": "RANGE"},
                        ],
                        # Only headers carry an owner, and they are small.
                        "Projection": {"ProjectionType": "ALL"},
                    }
                ],
            )
        except ClientError as error:
            if _code(error) != "ResourceInUseException":
                raise
        client.get_waiter("table_exists").wait(
            TableName=table_name, WaiterConfig={"Delay": 2, "MaxAttempts": 60}
        )
        _check_keys(client, table_name)
        _enable_time_to_live(client, table_name)


class Table:
    """A table's calls in Python values. Blocking; safe for use by several threads at once.

    Every call raises `StoreUnavailable` where DynamoDB cannot be reached or refuses it.
    """

    def __init__(self, client: DynamoDBClient, name: str) -> None:
        self._client = client
        self._name = name

    def get(self, key: Item) -> Item | None:
        """Return an item as it is now, None where there is none."""
        with translated():
            reply = self._client.get_item(TableName=self._name, Key=encode(key), ConsistentRead=True)
        found = reply.get("Item")
        return None if found is None else decode(found)

    def query(self, condition: str, values: Item, **options: object) -> Iterator[Item]:
        """Yield the items of all pages; a page is fetched when it is wanted."""
        texts = (text for text in options.values() if isinstance(text, str))
        request: dict[str, Any] = {
            "TableName": self._name,
            "KeyConditionExpression": condition,
            "ExpressionAttributeNames": names(condition, *texts),
            "ExpressionAttributeValues": encode(values),
            **options,
        }
        while True:
            with translated():
                page = self._client.query(**request)
            yield from (decode(item) for item in page["Items"])
            if not page.get("LastEvaluatedKey"):
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def update(self, key: Item, update: str, condition: str, values: Item) -> bool:
        """Change an item; False where the condition does not hold."""
        request = self._expression(key, condition, values, update)
        return not self._conditional(lambda: self._client.update_item(**request))

    def delete(self, key: Item, condition: str | None = None, values: Item | None = None) -> bool:
        """Remove an item; False where the condition does not hold."""
        request = self._expression(key, condition, values or {})
        return not self._conditional(lambda: self._client.delete_item(**request))

    def transact(self, *operations: TransactWriteItemTypeDef) -> list[int]:
        """Write all or nothing; return the places of the operations whose condition did not hold."""
        # The client gives each call a token of its own: a retry after a lost reply writes nothing twice.
        return self._conditional(lambda: self._client.transact_write_items(TransactItems=operations))

    def put_operation(
        self, item: Item, condition: str, values: Item | None = None
    ) -> TransactWriteItemTypeDef:
        """Return a conditional put for `transact`."""
        request: Any = {**self._expression(None, condition, values or {}), "Item": encode(item)}
        return {"Put": request}

    def update_operation(
        self, key: Item, update: str, condition: str, values: Item
    ) -> TransactWriteItemTypeDef:
        """Return a conditional update for `transact`."""
        request: Any = self._expression(key, condition, values, update)
        return {"Update": request}

    def check_operation(self, key: Item, condition: str, values: Item) -> TransactWriteItemTypeDef:
        """Return a condition alone for `transact`."""
        request: Any = self._expression(key, condition, values)
        return {"ConditionCheck": request}

    def delete_all(self, keys: Sequence[Item]) -> None:
        """Remove items, whatever they hold."""
        for start in range(0, len(keys), MAX_BATCH):
            batch: Any = [{"DeleteRequest": {"Key": encode(key)}} for key in keys[start : start + MAX_BATCH]]
            self._write_batch({self._name: batch})

    def _write_batch(self, batch: dict[str, Any]) -> None:
        for attempt in range(MAX_ATTEMPTS):
            with translated():
                reply = self._client.batch_write_item(RequestItems=batch)
            batch = reply.get("UnprocessedItems")
            if not batch:
                return
            pause(attempt)
        raise StoreUnavailable("the conversation table did not take a batch")

    def _expression(
        self, key: Item | None, condition: str | None, values: Item, update: str | None = None
    ) -> dict[str, Any]:
        request: dict[str, Any] = {"TableName": self._name}
        if key is not None:
            request["Key"] = encode(key)
        if condition is not None:
            request["ConditionExpression"] = condition
            request["ExpressionAttributeNames"] = names(condition, update)
        if update is not None:
            request["UpdateExpression"] = update
        if values:
            request["ExpressionAttributeValues"] = encode(values)
        return request

    def _conditional(self, call: Callable[[], object]) -> list[int]:
        with translated():
            for attempt in range(MAX_ATTEMPTS):
                try:
                    call()
                    return []
                except ClientError as error:
                    codes = [_code(error), *_reasons(error)]
                    failed = [place for place, code in enumerate(codes) if code in _CONDITION_FAILED]
                    if failed:
                        # The error's own code stands first; behind it one reason an operation.
                        return [max(place - 1, 0) for place in failed]
                    if _RETRIED.isdisjoint(codes) or attempt == MAX_ATTEMPTS - 1:
                        raise
                pause(attempt)
        raise AssertionError("the last attempt returns or raises")


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the client raises into `StoreUnavailable`; the cause goes with it.

    The log gets the operation and DynamoDB's code, which tell a missing right from a missing table.
    """
    try:
        yield
    except ClientError as error:
        _logger.warning("DynamoDB refused %s: %s", error.operation_name, _code(error))
        raise StoreUnavailable("the conversation table cannot be read or written") from error
    except BotoCoreError as error:
        _logger.warning("DynamoDB cannot be reached: %s", type(error).__name__)
        raise StoreUnavailable("the conversation table cannot be read or written") from error


def pause(attempt: int) -> None:
    """Wait before another attempt, each time about twice as long."""
    # Jitter: writers that met once must not meet again.
    time.sleep(_FIRST_DELAY_S * 2**attempt * random.uniform(0.5, 1))  # noqa: S311


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _reasons(error: ClientError) -> list[str]:
    reply: Mapping[str, Any] = error.response
    return [str(reason.get("Code", "")) for reason in reply.get("CancellationReasons") or ()]


def _check_keys(client: DynamoDBClient, table_name: str) -> None:
    table = client.describe_table(TableName=table_name)["Table"]
    keys = [key["AttributeName"] for key in table.get("KeySchema", [])]
    indexes = [index.get("IndexName") for index in table.get("GlobalSecondaryIndexes", [])]
    if keys != ["session_id", "turn"] or OWNER_INDEX not in indexes:
        raise StoreUnavailable(f"the table {table_name} exists and is not one of conversations")


def _enable_time_to_live(client: DynamoDBClient, table_name: str) -> None:
    def status() -> str:
        reply = client.describe_time_to_live(TableName=table_name)
        return reply["TimeToLiveDescription"].get("TimeToLiveStatus", "DISABLED")

    if status() in ("ENABLED", "ENABLING"):
        return
    try:
        client.update_time_to_live(
            TableName=table_name,
            TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires_at"},
        )
    except ClientError:
        # Another instance that starts right now may have been first.
        if status() not in ("ENABLED", "ENABLING"):
            raise
