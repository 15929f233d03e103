# ruff: noqa: ASYNC240 - the files are small and the loop has nothing else to do

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openchatkit.errors import Conflict, StoreUnavailable
from openchatkit.ports import Session, Turn
from openchatkit.stores import sqlite
from openchatkit.stores.sqlite import SqliteStore

HANDLER = Path(__file__).parents[2] / "handler"
CANARY = "canary-51c2"

WRITER = """
import asyncio, sys
from openchatkit.errors import Conflict
from openchatkit.ports import Session, Turn
from openchatkit.stores.sqlite import SqliteStore

async def main(path, name, turns):
    store = SqliteStore(path, retention_days=1)
    try:
        await store.create(Session("s1", "ada", "t", 1.0, 1.0))
    except Conflict:
        pass
    print("ready", flush=True)
    sys.stdin.readline()
    won = 0
    for number in range(1, turns + 1):
        text = f"{number} " * 4000
        turn = Turn("s1", number, f"{name}{number}", text, text, "stop", float(number))
        try:
            await store.append(turn)
            won += 1
        except Conflict:
            continue
        print(number, flush=True)
    print("won", won, flush=True)
    await store.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def a_turn(number: int, text: str = "question") -> Turn:
    return Turn("s1", number, f"r{number}", text, "answer", "stop", float(number))


def start_writer(path: Path, name: str, turns: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(turns)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HANDLER)},
    )


def begin(writer: subprocess.Popen[str]) -> None:
    assert writer.stdin is not None
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    writer.stdin.write("\n")
    writer.stdin.flush()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "conversations.sqlite"


async def filled(path: Path) -> None:
    store = SqliteStore(path, retention_days=1)
    await store.create(Session("s1", "ada", "t", 1.0, 1.0))
    await store.append(a_turn(1, CANARY * 1000))
    await store.append(a_turn(2))
    await store.close()


async def test_what_was_confirmed_survives_kill_9(path: Path) -> None:
    confirmed = 0
    with start_writer(path, "w", 100_000) as writer:
        begin(writer)
        assert writer.stdout is not None
        while confirmed < 25:
            confirmed = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        for line in writer.stdout.read().splitlines(keepends=True):
            confirmed = int(line) if line.endswith("\n") else confirmed
    store = SqliteStore(path, retention_days=1)
    turns = await store.turns("s1", 100_000)
    assert len(turns) in (confirmed, confirmed + 1)
    for number, turn in enumerate(turns, start=1):
        assert (turn.number, turn.human, turn.bot) == (number, f"{number} " * 4000, f"{number} " * 4000)
    session = await store.session("s1")
    assert session is not None
    assert session.updated_at == float(len(turns))
    await store.append(a_turn(len(turns) + 1))
    await store.close()


async def test_two_processes_share_a_file(path: Path) -> None:
    turns = 40
    with start_writer(path, "a", turns) as first, start_writer(path, "b", turns) as second:
        begin(first)
        begin(second)
        assert first.stdout is not None
        assert second.stdout is not None
        won = [int(writer.stdout.read().split()[-1]) for writer in (first, second) if writer.stdout]
    assert sum(won) == turns
    store = SqliteStore(path, retention_days=1)
    stored = await store.turns("s1", 100)
    assert [turn.number for turn in stored] == list(range(1, turns + 1))
    await store.close()


async def test_the_file_is_private(path: Path) -> None:
    path.parent.mkdir()
    path.touch(0o644)
    store = SqliteStore(path, retention_days=1)
    await store.create(Session("s1", "ada", "t", 1.0, 1.0))
    modes = {file.name: oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()}
    assert modes == {path.name + suffix: "0o600" for suffix in ("", "-wal", "-shm")}
    await store.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_commits_are_durable_and_shared(path: Path) -> None:
    await filled(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


async def test_deleted_text_is_overwritten(path: Path) -> None:
    await filled(path)
    assert CANARY.encode() in path.read_bytes()
    store = SqliteStore(path, retention_days=1)
    await store.delete("s1")
    await store.close()
    assert CANARY.encode() not in path.read_bytes()


@pytest.mark.parametrize("later", ["start", "create"])
async def test_expired_conversations_are_removed(path: Path, later: str) -> None:
    await filled(path)
    now = time.time()
    store = SqliteStore(path, retention_days=1, clock=lambda: now)
    now += 86_400 + 5
    if later == "start":
        await store.close()
        store = SqliteStore(path, retention_days=None, clock=lambda: now)
    else:
        await store.create(Session("s2", "ada", "t", 1.0, 1.0))
    await store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM turns").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM sessions WHERE session_id = 's1'").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize("damage", ["not sqlite", "header", "pages", "truncated"])
async def test_a_damaged_file_is_unavailable(path: Path, damage: str) -> None:
    await filled(path)
    content = path.read_bytes()
    damaged = {
        "not sqlite": b"These are somebody's notes.\n" * 200,
        "header": b"\x00" * 100 + content[100:],
        "pages": content[:100] + b"\xff" * (len(content) - 100),
        "truncated": content[: len(content) // 2 - 77],
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(StoreUnavailable) as failure:
        await _use(path)
    assert failure.value.__cause__ is not None
    assert str(path) not in str(failure.value)


async def _use(path: Path) -> None:
    store = SqliteStore(path, retention_days=1)
    try:
        await store.turns("s1", 10)
        await store.append(a_turn(3, CANARY * 1000))
        await store.delete("s1")
    finally:
        await store.close()


async def test_a_path_that_cannot_be_a_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    for path in (tmp_path, tmp_path / "plain" / "conversations.sqlite"):
        with pytest.raises(StoreUnavailable):
            SqliteStore(path, retention_days=1)


async def test_a_locked_file_is_unavailable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.1)
    await filled(path)
    store = SqliteStore(path, retention_days=1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        await store.append(a_turn(3))
    assert len(await store.turns("s1", 5)) == 2  # readers do not wait
    with pytest.raises(StoreUnavailable):
        SqliteStore(path, retention_days=1)
    other.execute("ROLLBACK")
    other.close()
    await store.append(a_turn(3))
    await store.close()


async def test_another_schema_is_left_alone(path: Path) -> None:
    await filled(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 3")
    connection.close()
    with pytest.raises(StoreUnavailable, match="schema 3"):
        SqliteStore(path, retention_days=1)
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (name)")
    connection.close()
    with pytest.raises(StoreUnavailable, match="something else"):
        SqliteStore(path, retention_days=1)


async def test_a_file_of_schema_1_is_brought_up_to_date(path: Path) -> None:
    await filled(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("ALTER TABLE sessions DROP COLUMN listed")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    for _ in range(2):
        store = SqliteStore(path, retention_days=1)
        assert [one.session_id for one in (await store.sessions("ada", 5)).sessions] == ["s1"]
        assert len(await store.turns("s1", 5)) == 2
        await store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    connection.close()


async def test_a_broken_record_is_unavailable(path: Path) -> None:
    await filled(path)
    for record in ("not json " + CANARY, "[1]", "{}"):
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("UPDATE turns SET record = ? WHERE number = 2", (record,))
        connection.close()
        store = SqliteStore(path, retention_days=1)
        with pytest.raises(StoreUnavailable) as failure:
            await store.turns("s1", 5)
        assert CANARY not in repr(failure.value) + repr(failure.value.__cause__)
        assert len(await store.turns("s1", 1, before=2)) == 1
        await store.close()


async def test_a_write_that_fails_changes_nothing(path: Path) -> None:
    await filled(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(
        "CREATE TRIGGER refuse BEFORE UPDATE ON sessions BEGIN SELECT RAISE(ABORT, 'refused'); END"
    )
    connection.close()
    store = SqliteStore(path, retention_days=1)
    for call in (store.append(a_turn(3)), store.replace(a_turn(1), expected="r1")):
        with pytest.raises(StoreUnavailable):
            await call
    assert [turn.number for turn in await store.turns("s1", 5)] == [1, 2]
    await store.close()


async def test_a_cancelled_caller_leaves_the_store_in_order(path: Path) -> None:
    await filled(path)
    store = SqliteStore(path, retention_days=1)
    writing = asyncio.ensure_future(store.append(a_turn(3)))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    last = len(await store.turns("s1", 5))
    with pytest.raises(Conflict):
        await store.append(a_turn(last))
    await store.append(a_turn(last + 1))
    await store.close()
