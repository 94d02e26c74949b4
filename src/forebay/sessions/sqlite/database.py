"""Connections to the SQLite database: the workers of the two threads.

`Writer` runs a batch in one transaction; `Reader` reads the newest committed state. Both raise
errors of `forebay.errors` only.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any

from forebay.errors import (
    DiskFull,
    ForebayError,
    InvalidField,
    SessionsUnavailable,
    StorageDenied,
    StorageFailed,
    TooLarge,
    UploadError,
    from_os_error,
)
from forebay.model import Durability
from forebay.sessions.sqlite import schema
from forebay.sessions.sqlite.batch_thread import Operation
from forebay.sessions.sqlite.writelock import WHILE_STUCK, WriteLock

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_DENIED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_OWN_FAULTS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
)
"""Errors of one statement: its transaction goes on without it."""
_KEEPS_CONNECTION = {*_BUSY, sqlite3.SQLITE_FULL}
"""After any other error the next batch starts with a new connection."""
_JOURNAL_LIMIT = 64 * 2**20
"""Bytes to which the write-ahead log is cut after a checkpoint."""


def primary_code(error: sqlite3.Error) -> int:
    """The result code without its extension; 0 when the error is not SQLite's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def translate(error: Exception, path: str) -> Exception:
    """The error of `forebay.errors` for `error`; a new instance at every call."""
    if isinstance(error, ForebayError):
        return type(error)(error.message, **error.detail)
    if isinstance(error, OSError):
        return from_os_error(error)
    if not isinstance(error, sqlite3.Error):
        return error
    code = primary_code(error)
    detail = {"sqlite": getattr(error, "sqlite_errorname", type(error).__name__)}
    if code in _BUSY:
        return SessionsUnavailable(retry_after=1, **detail)
    if code == sqlite3.SQLITE_FULL or _is_shared_memory_full(error):
        return DiskFull("There is no room on the disk to keep the upload's state.", **detail)
    if code in _DAMAGED:
        return SessionsUnavailable(
            f"The session database {path} is damaged. Stop the server, move it away together"
            " with its -wal and -shm files, and start again: files that are finished are not"
            " touched, unfinished uploads begin anew. `sqlite3 FILE .recover` may save them.",
            **detail,
        )
    if code in _DENIED:
        return StorageDenied(f"The server may not write to its database {path}.", **detail)
    if code == sqlite3.SQLITE_CANTOPEN:
        return _cannot_open(path, detail)
    return StorageFailed(f"The upload's state could not be kept in {path}: {error}.", **detail)


def _is_shared_memory_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMSIZE


def _cannot_open(path: str, detail: dict[str, Any]) -> UploadError:
    try:  # SQLite does not say why: without free descriptors nothing else can be opened either
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return from_os_error(error)
    return StorageDenied(
        f"The session database {path} cannot be opened; is its folder there, and may the"
        " server write to it?",
        **detail,
    )


class _Connected:
    """One connection to the database, opened again after an error."""

    def __init__(self, path: str, durability: Durability, busy_timeout: float) -> None:
        self.path = os.path.abspath(path)
        self._durability = durability
        self._busy_timeout = busy_timeout
        self._connection: sqlite3.Connection | None = None
        self._stuck = False
        """The last wait for other processes timed out: waits are short until one succeeds."""

    def close(self) -> None:
        """Idempotent."""
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _connected(self, mode: str = "rw") -> sqlite3.Connection:
        if self._connection is None:
            name = urllib.parse.quote(os.fsencode(self.path))
            connection = sqlite3.connect(
                f"file:{name}?mode={mode}",
                uri=True,
                timeout=self._patience,
                isolation_level=None,  # transactions are begun and ended explicitly
            )
            try:
                for statement in self._settings():
                    connection.execute(statement)
            except BaseException:
                connection.close()  # without its settings it might sync less than wanted
                raise
            self._connection = connection
        return self._connection

    def _settings(self) -> Sequence[str]:
        strict = self._durability is Durability.STRICT
        return (
            f"PRAGMA synchronous = {'FULL' if strict else 'NORMAL'}",
            # For macOS, where a plain fsync does not reach the disk.
            f"PRAGMA fullfsync = {int(strict)}",
            f"PRAGMA journal_size_limit = {_JOURNAL_LIMIT}",
        )

    @property
    def _patience(self) -> float:
        return min(self._busy_timeout, WHILE_STUCK) if self._stuck else self._busy_timeout

    def _note_stuck(self, stuck: bool) -> None:
        if stuck != self._stuck:
            self._stuck = stuck
            if self._connection is not None:
                self._connection.execute(f"PRAGMA busy_timeout = {int(self._patience * 1000)}")

    def _forget_after(self, error: Exception) -> None:
        if not isinstance(error, sqlite3.Error):
            return
        code = primary_code(error)
        if code not in _KEEPS_CONNECTION:
            self._disconnect()
        if code in _BUSY:
            self._note_stuck(True)


class Writer(_Connected):
    """The only connection of this process that writes."""

    commits = 0
    """Transactions committed so far."""

    def __init__(self, path: str, durability: Durability, busy_timeout: float) -> None:
        super().__init__(path, durability, busy_timeout)
        self._lock = WriteLock(self.path + ".lock", busy_timeout)
        self._file: tuple[int, int] | None = None
        """Device and inode of the database that is open."""

    def open(self) -> None:
        """Creates or migrates the database. Raises UploadError."""
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            self._lock.open()
            with self._lock.held():
                self._patiently(self._prepare)
        except (sqlite3.Error, OSError) as error:
            raise translate(error, self.path) from error

    def close(self) -> None:
        super().close()
        self._lock.close()

    def perform(self, operations: Sequence[Operation[Any]]) -> Sequence[Any]:
        """All in one transaction; an error of the transaction fails every operation."""
        try:
            with self._lock.held():
                return self._transact(operations)
        except Exception as error:
            return [translate(error, self.path) for _ in operations]

    def _transact(self, operations: Sequence[Operation[Any]]) -> Sequence[Any]:
        try:
            self.check_place()
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            self._note_stuck(False)
            try:
                outcomes = [self._attempt(connection, operation) for operation in operations]
                self._commit(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except Exception as error:
            self._forget_after(error)
            raise
        return outcomes

    def _attempt(self, connection: sqlite3.Connection, operation: Operation[Any]) -> Any:
        """The operation's result or its own error. Raises what fails the whole transaction.

        An operation writes with its last statement or not at all, and SQLite undoes a statement
        that fails, so nothing of a failed operation is left.
        """
        try:
            return operation(connection)
        except _OWN_FAULTS as error:
            if not connection.in_transaction:
                raise
            return translate(error, self.path)
        except sqlite3.Error:
            raise
        except OverflowError:
            return TooLarge("An upload of that size cannot be recorded.", limit=2**63 - 1)
        except UnicodeEncodeError:
            return InvalidField("A text of the upload's record is not valid Unicode.")
        except Exception as error:
            return error

    def _commit(self, connection: sqlite3.Connection) -> None:
        connection.execute("COMMIT")
        self.commits += 1

    def _prepare(self) -> None:
        is_new = not os.path.exists(self.path)
        connection = self._connected("rwc")
        if is_new:
            # Upload ids are secrets. Set now, because the log inherits the permissions.
            os.chmod(self.path, 0o600)
        ready = schema.check(connection, self.path)
        if connection.execute("PRAGMA journal_mode = WAL").fetchall()[0][0] != "wal":
            raise SessionsUnavailable(
                f"{self.path} is on a filesystem without shared memory; upload state needs a"
                " local one."
            )
        if not ready:
            schema.migrate(connection, self.path)
        if self._durability is Durability.STRICT:
            _sync_folder(os.path.dirname(self.path))
        self._file = self._there()

    def _there(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def check_place(self) -> None:
        """Raises SessionsUnavailable when commits would go into a file that a restart does not
        find; OSError.
        """
        there = self._there()
        if there is None:
            raise SessionsUnavailable(
                f"The session database {self.path} was removed while the server runs, and nothing"
                " more is recorded in it. Put it back, or restart the server to begin a new one:"
                " unfinished uploads begin anew then, finished files are not touched.",
                retry_after=5,
            )
        if there != self._file:
            raise SessionsUnavailable(
                f"The session database {self.path} was replaced while the server runs; it is"
                " opened again.",
                retry_after=1,
                replaced=True,
            )

    def look(self) -> None:
        """Reads it with a new connection, as a start does. Raises UploadError."""
        try:
            self.check_place()
            name = urllib.parse.quote(os.fsencode(self.path))
            connection = sqlite3.connect(f"file:{name}?mode=rw", uri=True, timeout=1.0)
            try:
                schema.check(connection, self.path)
                connection.execute("SELECT id FROM uploads ORDER BY id LIMIT 1").fetchall()
            finally:
                connection.close()
        except (sqlite3.Error, OSError) as error:
            raise translate(error, self.path) from error

    def _patiently(self, action: Callable[[], None]) -> None:
        # SQLite itself does not wait for readers when it changes to WAL.
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                return action()
            except sqlite3.OperationalError as error:
                if primary_code(error) not in _BUSY or time.monotonic() >= deadline:
                    raise
                time.sleep(0.01)


class Reader(_Connected):
    """Reads on a connection of its own, so that no read waits for a slow commit."""

    def open(self) -> None:
        """Called after the writer has opened. Raises UploadError."""
        try:
            self._connected()
        except sqlite3.Error as error:
            raise translate(error, self.path) from error

    def perform(self, operations: Sequence[Operation[Any]]) -> Sequence[Any]:
        """Each by itself: a read sees what any process committed before."""
        return [self._answer(operation) for operation in operations]

    def _settings(self) -> Sequence[str]:
        return (*super()._settings(), "PRAGMA query_only = ON")

    def _answer(self, operation: Operation[Any]) -> Any:
        try:
            answer = operation(self._connected())
            self._note_stuck(False)
            return answer
        except Exception as error:
            self._forget_after(error)
            return translate(error, self.path)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
