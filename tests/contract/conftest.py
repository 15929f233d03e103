"""The stores of the contract suite: a file, DynamoDB as moto plays it, and AWS's own DynamoDB Local."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from openchatkit.ports import ConversationStore
from openchatkit.stores.dynamodb import DynamoDbStore, client_config
from openchatkit.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

JAVA = Path(__file__).parent / "java"
JARS = Path(__file__).parents[2] / ".dev" / "jars" / "dynamodb"
START_S = 60


class Clock:
    """A clock that the test sets; it starts at the real time."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """Opens stores on one and the same data, as several instances of the chatbot would."""

    make: Callable[[int | None, Clock], ConversationStore]
    clock: Clock = field(default_factory=Clock)
    opened: list[ConversationStore] = field(default_factory=list)

    def open(self, retention_days: int | None = 90) -> ConversationStore:
        self.opened.append(self.make(retention_days, self.clock))
        return self.opened[-1]


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """Moto behind HTTP."""
    with serve_moto() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def dynamodb_local_endpoint() -> Iterator[str]:
    """AWS's DynamoDB for tests, in memory, on 127.0.0.1 alone."""
    if shutil.which("java") is None:
        pytest.skip("needs java")
    if not any(JARS.glob("DynamoDBLocal-*.jar")):
        pytest.skip("needs the jars of DynamoDB Local: scripts/setup_tests fetches them where there is mvn")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", f"-Djava.library.path={JARS}"]
    command += ["-cp", f"{JARS}/*", str(JAVA / "LoopbackDynamoDb.java")]
    command += ["-inMemory", "-disableTelemetry", "-port", str(port)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.fixture(
    params=["sqlite", "moto", pytest.param("dynamodb_local", marks=pytest.mark.java)],
)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """A place for conversations, empty; every store opened on it is closed afterwards."""
    if request.param == "sqlite":
        path = tmp_path / "conversations.sqlite"
        bench = Bench(lambda days, clock: SqliteStore(path, retention_days=days, clock=clock))
    else:
        endpoint = request.getfixturevalue(f"{request.param}_endpoint")
        name = f"conversations-{uuid.uuid4().hex}"

        def make(days: int | None, clock: Clock) -> ConversationStore:
            store = DynamoDbStore(
                dynamodb_client(endpoint), table_name=name, retention_days=days, clock=clock
            )
            store.create_table_if_missing()
            return store

        bench = Bench(make)
    yield bench
    for store in bench.opened:
        await store.close()


@pytest.fixture
def store(bench: Bench) -> ConversationStore:
    """One store, for tests that need no second."""
    return bench.open()


@contextlib.contextmanager
def serve_moto() -> Iterator[str]:
    """Serve moto. It has no transactions of its own, so it takes one request at a time."""
    server = make_server(
        "127.0.0.1",
        0,
        DomainDispatcherApplication(create_backend_app),
        threaded=False,
        request_handler=MotoRequestHandler,
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def dynamodb_client(endpoint: str) -> DynamoDBClient:
    """A real boto3 client; nothing that listens here looks at its credentials."""
    return boto3.client(
        "dynamodb",
        endpoint_url=endpoint,
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=client_config(),
    )


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up:
        if process.poll() is not None:
            pytest.skip(f"DynamoDB Local does not run here: it ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    pytest.fail(f"DynamoDB Local did not listen within {START_S} s")
