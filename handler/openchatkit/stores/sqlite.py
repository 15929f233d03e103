"""Conversations in one SQLite file: the store of one machine.

The file is in WAL mode, so several processes may share it on one machine (not over a network file
system): readers never wait, writers take turns and wait for each other at most `BUSY_S`.
`synchronous=FULL`: each commit is on the disk before the caller hears of it. NORMAL would survive a
killed process as well, but may lose the last commits with the power, and a turn takes seconds
anyway: a few milliseconds of fsync are not worth an answer that a user saw and cannot find. A session
that has no turn yet is the exception: nobody loses anything with it, and its turn need not wait.

Its mode is 0600 and deleted text is overwritten (`secure_delete`). A conversation expires
`retention_days` after its last turn; it is invisible from then on and removed at the next start or,
while running, when a session is created.

    python -c "from openchatkit.stores.sqlite import SqliteStore; SqliteStore('x.sqlite', retention_days=90)"
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from openchatkit.errors import Conflict, SessionNotFound, StoreUnavailable
from openchatkit.ports import UNTITLED, Feedback, Session, SessionPage, Turn
from openchatkit.stores.cursor import decode_cursor, encode_cursor
from openchatkit.stores.records import (
    check_storable,
    feedback_record,
    turn_from,
    turn_record,
)
from openchatkit.stores.threaded import OPENING_S, SECONDS_A_DAY, Clock, ThreadedStore

_logger = logging.getLogger(__name__)

SCHEMA_VERSION = 2
BUSY_S = 5.0
PURGE_INTERVAL_S = 3600.0

_SCHEMA = f"""
CREATE TABLE sessions (
    session_id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    title TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    cancel_mark TEXT,
    expires_at REAL,
    listed INTEGER NOT NULL DEFAULT 1
);
CREATE INDEX sessions_of_owner ON sessions (owner, updated_at DESC, session_id DESC);
CREATE INDEX sessions_by_expiry ON sessions (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE turns (
    session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    number INTEGER NOT NULL CHECK (number >= 1),
    record TEXT NOT NULL,
    feedback TEXT,
    PRIMARY KEY (session_id, number)
);
PRAGMA user_version = {SCHEMA_VERSION};
"""
_MIGRATIONS = {1: "ALTER TABLE sessions ADD COLUMN listed INTEGER NOT NULL DEFAULT 1"}
"""By the schema that a file has: the statement that makes the next one of it."""
_LIVE = "(expires_at IS NULL OR expires_at > :now)"


class SqliteStore(ThreadedStore):
    """`ConversationStore` in a file, which is made where it is missing.

    One connection, used by one thread: SQLite writes one at a time anyway.

    Args:
        path: the file; its folder is made too.
        retention_days: days after the last turn that a conversation is kept; None keeps it. A new
            value counts from a conversation's next turn.
        clock: what time it is.

    Raises:
        StoreUnavailable: the file cannot be opened, is no conversation store, is damaged, or of a
            schema that this release does not know.
    """

    def __init__(self, path: str | Path, *, retention_days: int | None, clock: Clock = time.time) -> None:
        threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-store")
        try:
            opened = threads.submit(_Database, Path(path), retention_days, clock)
            super().__init__(threads, opened.result())
        except BaseException:
            threads.shutdown()
            raise


class _Database:
    """The blocking side. Every method runs on the thread that made the object."""

    def __init__(self, path: Path, retention_days: int | None, clock: Clock) -> None:
        self._retention_s = None if retention_days is None else retention_days * SECONDS_A_DAY
        self._clock = clock
        self._purge_due = 0.0
        with _translated():
            self._connection = _open(path)
        try:
            with _translated():
                _migrate(self._connection)
                self._purge_if_due()
        except BaseException:
            self._connection.close()
            raise

    def create(self, session: Session, listed: bool) -> None:
        check_storable(dataclasses.astuple(session))
        with self._write(durable=listed):
            self._purge_if_due()
            # Its session_id may still be held by one that has expired since.
            self._connection.execute(
                f"DELETE FROM sessions WHERE session_id = :id AND NOT {_LIVE}",  # noqa: S608
                {"id": session.session_id, "now": self._clock()},
            )
            added = self._connection.execute(
                "INSERT OR IGNORE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    session.session_id,
                    session.owner,
                    session.title,
                    session.created_at,
                    session.updated_at,
                    session.cancel_mark,
                    self._expiry() if listed else self._clock() + OPENING_S,
                    listed,
                ),
            )
            if added.rowcount == 0:
                raise Conflict("a session with this id exists")

    def session(self, session_id: str) -> Session | None:
        with _translated():
            row = self._connection.execute(
                f"{_SELECT_SESSION} WHERE session_id = :id AND {_LIVE}",
                {"id": session_id, "now": self._clock()},
            ).fetchone()
        return None if row is None else Session(*row)

    def sessions(self, owner: str, limit: int, cursor: str | None) -> SessionPage:
        after = None if cursor is None else decode_cursor(owner, cursor)
        position = "" if after is None else "AND (updated_at, session_id) < (:updated_at, :id)"
        updated_at, session_id = after or (0.0, "")
        with _translated():
            rows = self._connection.execute(
                f"{_SELECT_SESSION} WHERE owner = :owner AND listed AND {_LIVE} {position}"
                " ORDER BY updated_at DESC, session_id DESC LIMIT :limit",
                {
                    "owner": owner,
                    "now": self._clock(),
                    "updated_at": updated_at,
                    "id": session_id,
                    "limit": limit + 1,
                },
            ).fetchall()
        page = tuple(Session(*row) for row in rows[:limit])
        if len(rows) <= limit or not page:
            return SessionPage(page)
        return SessionPage(page, encode_cursor(owner, (page[-1].updated_at, page[-1].session_id)))

    def rename(self, session_id: str, title: str) -> None:
        check_storable(title)
        if not self._update_session("title = :value", session_id, title):
            raise SessionNotFound("no such session")

    def set_cancel_mark(self, session_id: str, mark: str) -> None:
        # Where the session is gone there is nothing left to stop.
        self._update_session("cancel_mark = :value", session_id, mark)

    def delete(self, session_id: str) -> None:
        with self._write():
            self._connection.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,))

    def turns(self, session_id: str, limit: int, before: int | None) -> list[Turn]:
        with _translated():
            rows = self._connection.execute(
                # One statement sees one state of the file, whatever other processes do meanwhile.
                "SELECT number, record, feedback FROM turns JOIN sessions USING (session_id)"  # noqa: S608
                f" WHERE session_id = :id AND {_LIVE} AND (:before IS NULL OR number < :before)"
                " ORDER BY number DESC LIMIT :limit",
                {"id": session_id, "now": self._clock(), "before": before, "limit": max(limit, 0)},
            ).fetchall()
        return [_turn(session_id, *row) for row in reversed(rows)]

    def append(self, turn: Turn, title: str | None) -> None:
        check_storable(title)
        with self._write():
            if turn.number != self._newest(turn.session_id) + 1:
                raise Conflict("the turn is not the next one of its session")
            self._insert(turn)
            self._touch(turn, title)

    def replace(self, turn: Turn, expected: str) -> None:
        with self._write():
            stored = self._connection.execute(
                "SELECT record FROM turns JOIN sessions USING (session_id)"  # noqa: S608
                f" WHERE session_id = :id AND {_LIVE} AND number = :number",
                {"id": turn.session_id, "now": self._clock(), "number": turn.number},
            ).fetchone()
            if stored is None or _json_object(stored[0]).get("request_id") != expected:
                raise Conflict("the turn to be replaced is another one by now")
            self._connection.execute(
                "DELETE FROM turns WHERE session_id = ? AND number >= ?", (turn.session_id, turn.number)
            )
            self._insert(turn)
            self._touch(turn, None)

    def set_feedback(self, session_id: str, number: int, feedback: Feedback | None) -> bool:
        record = feedback_record(feedback)
        check_storable(record)
        with self._write():
            updated = self._connection.execute(
                "UPDATE turns SET feedback = :feedback WHERE session_id = :id AND number = :number"  # noqa: S608
                f" AND EXISTS (SELECT 1 FROM sessions WHERE session_id = :id AND {_LIVE})",
                {
                    "feedback": _json_text(record),
                    "id": session_id,
                    "number": number,
                    "now": self._clock(),
                },
            )
            return updated.rowcount == 1

    def close(self) -> None:
        with _translated():
            self._connection.close()

    def _newest(self, session_id: str) -> int:
        """Return the number of a session's newest turn; raises `SessionNotFound`."""
        row = self._connection.execute(
            "SELECT (SELECT coalesce(max(number), 0) FROM turns WHERE turns.session_id = :id)"  # noqa: S608
            f" FROM sessions WHERE session_id = :id AND {_LIVE}",
            {"id": session_id, "now": self._clock()},
        ).fetchone()
        if row is None:
            raise SessionNotFound("no such session")
        return int(row[0])

    def _insert(self, turn: Turn) -> None:
        record = turn_record(turn)
        feedback = record.pop("feedback")  # a column of its own: a thumb rewrites no text
        self._connection.execute(
            "INSERT INTO turns VALUES (?, ?, ?, ?)",
            (turn.session_id, turn.number, _json_text(record), _json_text(feedback)),
        )

    def _touch(self, turn: Turn, title: str | None) -> None:
        self._connection.execute(
            "UPDATE sessions SET updated_at = ?, expires_at = ?, listed = 1,"
            " title = CASE title WHEN ? THEN coalesce(?, title) ELSE title END WHERE session_id = ?",
            (turn.created_at, self._expiry(), UNTITLED, title, turn.session_id),
        )

    def _update_session(self, assignment: str, session_id: str, value: str) -> bool:
        with self._write():
            updated = self._connection.execute(
                f"UPDATE sessions SET {assignment} WHERE session_id = :id AND {_LIVE}",  # noqa: S608
                {"value": value, "id": session_id, "now": self._clock()},
            )
            return updated.rowcount == 1

    def _expiry(self) -> float | None:
        return None if self._retention_s is None else self._clock() + self._retention_s

    def _purge_if_due(self) -> None:
        now = self._clock()
        if now >= self._purge_due:
            self._connection.execute("DELETE FROM sessions WHERE expires_at <= ?", (now,))
            self._purge_due = now + PURGE_INTERVAL_S

    @contextmanager
    def _write(self, *, durable: bool = True) -> Iterator[None]:
        """Open a transaction that no other process can write beside; all of it counts, or nothing.

        Without `durable` the disk is not waited for: a loss of power may undo it, a killed process not.
        """
        with _translated():
            if not durable:
                self._connection.execute("PRAGMA synchronous = NORMAL")
            try:
                with _transaction(self._connection):
                    yield
            finally:
                if not durable:
                    self._connection.execute("PRAGMA synchronous = FULL")


_SELECT_SESSION = "SELECT session_id, owner, title, created_at, updated_at, cancel_mark FROM sessions"


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        _logger.warning("the conversation file failed: %s", name)
        raise StoreUnavailable("the conversation file cannot be read or written") from error


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # IMMEDIATE: a transaction that reads first could not become a writer beside another one.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    # SQLite gives its WAL and shared-memory files the mode of the main one.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    path.chmod(0o600)
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        _enter_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL; SQLite does not wait for another process that does so right now."""
    give_up = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.02)


def _migrate(connection: sqlite3.Connection) -> None:
    """Make the tables in a new file, bring an older one up to date.

    Raises:
        StoreUnavailable: the file is not ours, or of a newer release.
    """
    with _transaction(connection):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version == 0 and tables == 0:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
        elif version == 0:
            raise StoreUnavailable("the conversation file is a database of something else")
        elif not 1 <= version <= SCHEMA_VERSION:
            raise StoreUnavailable(
                f"the conversation file has schema {version}, this release knows {SCHEMA_VERSION}"
            )
        else:
            for older in range(version, SCHEMA_VERSION):
                connection.execute(_MIGRATIONS[older])
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _turn(session_id: str, number: int, record: str, feedback: str | None) -> Turn:
    stored = _json_object(record)
    stored["feedback"] = None if feedback is None else _json_object(feedback)
    return turn_from(session_id, number, stored)


def _json_text(record: dict[str, object] | None) -> str | None:
    return None if record is None else json.dumps(record, ensure_ascii=False, separators=(",", ":"))


def _json_object(text: str) -> dict[str, object]:
    try:
        record = json.loads(text)
    except ValueError:
        # Without its cause, which quotes the text.
        raise StoreUnavailable("a stored turn cannot be read") from None
    if not isinstance(record, dict):
        raise StoreUnavailable("a stored turn cannot be read")
    return record
