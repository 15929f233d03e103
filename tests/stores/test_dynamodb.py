"""What is DynamoDB's alone. The contract suite runs on the real engine; here moto lets a test look inside."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from openchatkit.errors import Conflict, InvalidRequest, SessionNotFound, StoreUnavailable
from openchatkit.ports import Feedback, Session, Turn
from openchatkit.stores.dynamodb import MAX_TURN_BYTES, DynamoDbStore
from openchatkit.stores.dynamodb_table import MAX_ATTEMPTS, OWNER_INDEX
from tests.contract.conftest import dynamodb_client, serve_moto

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

DAY_S = 86_400
TABLE = "conversations"
CANARY = "canary-90ab"
SESSION = Session("s1", "ada", "New conversation", 1.0, 1.0)


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Interference:
    """Answers calls of one operation in DynamoDB's place, as often as `times` says."""

    def __init__(
        self, client: DynamoDBClient, operation: str, answer: dict[str, Any], status: int = 400
    ) -> None:
        self.times = 0
        self.seen: list[dict[str, Any]] = []
        """The requests, those that went through included."""
        self._answer, self._status = answer, status
        # botocore sends nothing where a handler has an answer; its stubs know only handlers without.
        handler: Any = self._before_send
        client.meta.events.register_first(f"before-send.dynamodb.{operation}", handler)

    def _before_send(self, request: AWSPreparedRequest, **_: object) -> AWSResponse | None:
        body: Any = request.body
        self.seen.append(json.loads(body))
        if self.times <= 0:
            return None
        self.times -= 1
        headers: Any = {}
        raw = _Raw(json.dumps(self._answer).encode())
        return AWSResponse(str(request.url), self._status, headers, raw)


class _Raw:
    """A body as botocore reads it from urllib3."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: object) -> Iterator[bytes]:
        yield self._body


def refusal(code: str, **fields: object) -> dict[str, Any]:
    return {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": CANARY, **fields}


def cancelled(*codes: str) -> dict[str, Any]:
    return refusal("TransactionCanceledException", CancellationReasons=[{"Code": code} for code in codes])


def a_turn(number: int, request_id: str = "", text: str = "question") -> Turn:
    return Turn("s1", number, request_id or f"r{number}", text, "answer", "stop", float(number))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with serve_moto() as endpoint:
        yield endpoint


@pytest.fixture
def client(endpoint: str) -> Iterator[DynamoDBClient]:
    client = dynamodb_client(endpoint)
    yield client
    for name in client.list_tables()["TableNames"]:
        client.delete_table(TableName=name)
    client.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(client: DynamoDBClient, clock: Clock) -> Callable[[int | None], DynamoDbStore]:
    def open_store(retention_days: int | None) -> DynamoDbStore:
        return DynamoDbStore(client, table_name=TABLE, retention_days=retention_days, clock=clock)

    open_store(None).create_table_if_missing()
    return open_store


@pytest.fixture
async def store(opened: Callable[[int | None], DynamoDbStore]) -> DynamoDbStore:
    store = opened(10)
    await store.create(SESSION)
    for number in (1, 2, 3):
        await store.append(a_turn(number))
    return store


def items(client: DynamoDBClient) -> dict[int, dict[str, Any]]:
    return {int(item["turn"]["N"]): item for item in client.scan(TableName=TABLE)["Items"]}


def expiries(client: DynamoDBClient) -> tuple[int, list[int]]:
    """Return when the header expires, and when the turns do."""
    stored = items(client)
    header = stored.pop(0)
    return int(header["expires_at"]["N"]), [int(item["expires_at"]["N"]) for item in stored.values()]


# --- the table -------------------------------------------------------------------------------


async def test_the_table(client: DynamoDBClient, store: DynamoDbStore) -> None:
    store.create_table_if_missing()
    table = client.describe_table(TableName=TABLE)["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    time_to_live = client.describe_time_to_live(TableName=TABLE)["TimeToLiveDescription"]
    assert time_to_live == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}
    listed = client.scan(TableName=TABLE, IndexName=OWNER_INDEX)["Items"]
    assert [item["turn"] for item in listed] == [{"N": "0"}]  # headers alone


async def test_a_table_of_something_else_is_refused(client: DynamoDBClient) -> None:
    client.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )
    with pytest.raises(StoreUnavailable, match="not one of conversations"):
        DynamoDbStore(client, table_name=TABLE, retention_days=1).create_table_if_missing()


async def test_a_turn_can_be_read_in_the_console(client: DynamoDBClient, store: DynamoDbStore) -> None:
    item = items(client)[1]
    assert item["human"] == {"S": "question"}
    assert float(item["created_at"]["N"]) == 1.0
    assert "feedback" not in item
    assert "owner" not in item


# --- expiry ----------------------------------------------------------------------------------


async def test_turns_never_expire_before_their_header(
    client: DynamoDBClient, store: DynamoDbStore, clock: Clock
) -> None:
    for number in range(4, 40):
        clock.now += 0.9 * DAY_S
        await store.append(a_turn(number))
        header, turns = expiries(client)
        assert header == int(clock.now) + 10 * DAY_S
        assert min(turns) >= header
        assert max(turns) <= header + DAY_S
    assert len(await store.turns("s1", 100)) == 39


async def test_renewal_is_rare(client: DynamoDBClient, store: DynamoDbStore, clock: Clock) -> None:
    updates = Interference(client, "UpdateItem", {})
    for number in range(4, 54):
        clock.now += 600
        await store.append(a_turn(number))
    assert len(updates.seen) == 0
    clock.now += DAY_S
    await store.append(a_turn(54))
    assert len(updates.seen) == 53


async def test_another_retention_counts_from_the_next_turn(
    client: DynamoDBClient, store: DynamoDbStore, opened: Callable[[int | None], DynamoDbStore], clock: Clock
) -> None:
    await opened(None).append(a_turn(4))
    assert not any("expires_at" in item for item in items(client).values())
    await opened(2).append(a_turn(5))
    header, turns = expiries(client)
    assert header == int(clock.now) + 2 * DAY_S
    assert set(turns) == {header + DAY_S}
    await opened(100).replace(a_turn(5, "again"), expected="r5")
    header, turns = expiries(client)
    assert header == int(clock.now) + 100 * DAY_S
    assert set(turns) == {header + 7 * DAY_S}


async def test_a_missing_turn_is_no_silent_gap(client: DynamoDBClient, store: DynamoDbStore) -> None:
    client.delete_item(TableName=TABLE, Key={"session_id": {"S": "s1"}, "turn": {"N": "2"}})
    for limit in (2, 3, 100):
        with pytest.raises(StoreUnavailable, match="missing"):
            await store.turns("s1", limit)
    assert await store.turns("s1", 1) == [a_turn(3)]


# --- writes that are cut short ---------------------------------------------------------------


async def test_what_a_replace_could_not_remove_stays_out_of_sight(
    client: DynamoDBClient, store: DynamoDbStore
) -> None:
    deletes = Interference(client, "DeleteItem", refusal("InternalServerError"), status=500)
    deletes.times = 10
    edited = a_turn(1, "edited")
    await store.replace(edited, expected="r1")
    assert sorted(items(client)) == [0, 1, 2, 3]
    assert await store.turns("s1", 10) == [edited]
    assert await store.turns("s1", 1) == [edited]
    assert await store.turns("s1", 2, before=4) == [edited]
    assert await store.set_feedback("s1", 2, Feedback("up")) is False
    with pytest.raises(Conflict):
        await store.replace(a_turn(2, "late"), expected="r2")
    deletes.times = 0
    await store.append(a_turn(2, "next"))
    assert sorted(items(client)) == [0, 1, 2]
    assert await store.turns("s1", 10) == [edited, a_turn(2, "next")]


async def test_removal_spares_what_another_writer_adds_meanwhile(
    client: DynamoDBClient, store: DynamoDbStore, endpoint: str
) -> None:
    other_client = dynamodb_client(endpoint)
    other = DynamoDbStore(other_client, table_name=TABLE, retention_days=10, clock=Clock())
    await store.replace(a_turn(2, "edited"), expected="r2")
    wrote: list[bool] = []

    def write_first(**_: object) -> None:
        # The replace below has committed and is about to look for what it dropped.
        if not wrote:
            wrote.append(True)
            asyncio.run(other.append(a_turn(2, "other")))
            asyncio.run(other.append(a_turn(3, "other's next")))

    client.meta.events.register_first("before-send.dynamodb.Query", write_first)
    await store.replace(a_turn(1, "first"), expected="r1")
    assert wrote
    stored = await other.turns("s1", 10)
    assert [turn.request_id for turn in stored] == ["first", "other", "other's next"]
    assert sorted(items(client)) == [0, 1, 2, 3]
    await other.close()


async def test_a_read_that_a_replace_interrupts_starts_anew(
    client: DynamoDBClient, store: DynamoDbStore, endpoint: str
) -> None:
    other = DynamoDbStore(dynamodb_client(endpoint), table_name=TABLE, retention_days=10, clock=Clock())
    wrote: list[bool] = []

    def write_first(**_: object) -> None:
        if not wrote:
            wrote.append(True)
            asyncio.run(other.replace(a_turn(2, "edited"), expected="r2"))
            asyncio.run(other.append(a_turn(3, "next")))

    client.meta.events.register_first("before-send.dynamodb.Query", write_first)
    assert [turn.request_id for turn in await store.turns("s1", 10)] == ["r1", "edited", "next"]
    await other.close()


async def test_a_deletion_that_is_cut_short_can_be_repeated(
    client: DynamoDBClient, store: DynamoDbStore
) -> None:
    batches = Interference(client, "BatchWriteItem", refusal("InternalServerError"), status=500)
    batches.times = 10
    with pytest.raises(StoreUnavailable):
        await store.delete("s1")
    assert await store.session("s1") is not None
    assert [session.session_id for session in (await store.sessions("ada", 5)).sessions] == ["s1"]
    assert await store.turns("s1", 10) == []
    with pytest.raises(SessionNotFound):
        await store.append(a_turn(4))
    batches.times = 0
    await store.delete("s1")
    assert items(client) == {}


async def test_a_batch_that_was_not_taken_whole_is_sent_again(
    client: DynamoDBClient, store: DynamoDbStore
) -> None:
    rest = {TABLE: [{"DeleteRequest": {"Key": {"session_id": {"S": "s1"}, "turn": {"N": "2"}}}}]}
    batches = Interference(client, "BatchWriteItem", {"UnprocessedItems": rest}, status=200)
    batches.times = 2
    await store.delete("s1")
    assert len(batches.seen) == 3
    assert 2 not in items(client)
    batches.times = 1_000
    batches.seen.clear()
    await store.create(SESSION)
    await store.append(a_turn(1))
    with pytest.raises(StoreUnavailable, match="batch"):
        await store.delete("s1")
    assert len(batches.seen) == MAX_ATTEMPTS


async def test_a_lost_reply_is_no_conflict(client: DynamoDBClient, store: DynamoDbStore) -> None:
    """The retry of botocore carries the token of the first try, so DynamoDB writes once."""
    writes = Interference(client, "TransactWriteItems", refusal("InternalServerError"), status=500)
    writes.times = 1
    await store.append(a_turn(4))
    tokens = [request["ClientRequestToken"] for request in writes.seen]
    assert len(tokens) == 2
    assert len(set(tokens)) == 1


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])
async def test_a_busy_item_is_tried_again(client: DynamoDBClient, store: DynamoDbStore, code: str) -> None:
    writes = Interference(client, "TransactWriteItems", cancelled("None", code))
    writes.times = 3
    await store.append(a_turn(4))
    assert len(writes.seen) == 4
    writes.times = 1_000
    writes.seen.clear()
    with pytest.raises(StoreUnavailable) as failure:
        await store.append(a_turn(5))
    assert len(writes.seen) == MAX_ATTEMPTS
    assert CANARY not in str(failure.value)
    assert failure.value.__cause__ is not None


async def test_a_busy_header_is_tried_again(client: DynamoDBClient, store: DynamoDbStore) -> None:
    Interference(client, "UpdateItem", refusal("TransactionConflictException")).times = 2
    await store.rename("s1", "Margins")
    session = await store.session("s1")
    assert session is not None
    assert session.title == "Margins"


async def test_a_refusal_that_will_not_change_is_not_tried_again(
    client: DynamoDBClient, store: DynamoDbStore
) -> None:
    writes = Interference(client, "TransactWriteItems", cancelled("None", "ValidationError"))
    writes.times = 1_000
    with pytest.raises(StoreUnavailable):
        await store.append(a_turn(4))
    assert len(writes.seen) == 1


async def test_a_session_that_always_changes_is_a_conflict(
    client: DynamoDBClient, store: DynamoDbStore
) -> None:
    Interference(client, "TransactWriteItems", cancelled("ConditionalCheckFailed", "None")).times = 1_000
    for call in (store.append(a_turn(4)), store.replace(a_turn(3), expected="r3")):
        with pytest.raises(Conflict):
            await call


async def test_throttling_is_unavailable_soon(client: DynamoDBClient, store: DynamoDbStore) -> None:
    reads = Interference(client, "GetItem", refusal("ThrottlingException"))
    reads.times = 1_000
    began = time.monotonic()
    with pytest.raises(StoreUnavailable) as failure:
        await store.session("s1")
    assert time.monotonic() - began < 5
    assert CANARY not in str(failure.value)


async def test_an_endpoint_that_does_not_listen_is_unavailable_soon() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = dynamodb_client(f"http://127.0.0.1:{unused.getsockname()[1]}")
        store = DynamoDbStore(client, table_name=TABLE, retention_days=1)
        began = time.monotonic()
        for call in (store.session("s1"), store.append(a_turn(1)), store.sessions("ada", 5)):
            with pytest.raises(StoreUnavailable):
                await call
        assert time.monotonic() - began < 15
        with pytest.raises(StoreUnavailable):
            store.create_table_if_missing()
    await store.close()


async def test_a_missing_table_is_unavailable(client: DynamoDBClient) -> None:
    store = DynamoDbStore(client, table_name="nothing", retention_days=1)
    for call in (store.session("s1"), store.create(SESSION), store.delete("s1"), store.turns("s1", 1)):
        with pytest.raises(StoreUnavailable):
            await call


async def test_a_turn_beyond_an_item_is_refused(client: DynamoDBClient, store: DynamoDbStore) -> None:
    before = items(client)
    for turn in (a_turn(4, text=CANARY * 40_000), a_turn(4, text="ß" * (MAX_TURN_BYTES // 2))):
        with pytest.raises(InvalidRequest, match=str(MAX_TURN_BYTES)) as failure:
            await store.append(turn)
        assert CANARY not in str(failure.value)
        with pytest.raises(InvalidRequest):
            await store.replace(replace(turn, number=3), expected="r3")
    assert items(client) == before


async def test_a_broken_item_is_unavailable(client: DynamoDBClient, store: DynamoDbStore) -> None:
    for number, name in ((0, "title"), (2, "human")):
        client.update_item(
            TableName=TABLE,
            Key={"session_id": {"S": "s1"}, "turn": {"N": str(number)}},
            UpdateExpression="REMOVE #name",
            ExpressionAttributeNames={"#name": name},
        )
    with pytest.raises(StoreUnavailable):
        await store.session("s1")
    with pytest.raises(StoreUnavailable):
        await store.turns("s1", 5)
