"""Upload state in one SQLite file that every process of a machine shares.

Reads and writes have a thread and a connection each (`batch_thread`, `database`). Wake-ups between
the processes go through datagram sockets (`wakeups`), as a database can only be polled. It must be
on a local filesystem.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from forebay.errors import AlreadyExists, NotFound, UploadError, UploadExists, from_os_error
from forebay.model import Durability, UploadRecord, UploadState
from forebay.sessions.records import advance_refusal, check_changes, check_version, not_open
from forebay.sessions.sqlite import schema
from forebay.sessions.sqlite.batch_thread import BatchThread, Operation, T
from forebay.sessions.sqlite.database import Reader, Writer
from forebay.sessions.sqlite.wakeups import Wakeups

# The statements contain names of columns and states only; values are always parameters.
_INSERT = (
    f"INSERT INTO uploads ({schema.NAMES})"  # noqa: S608
    f" VALUES ({', '.join('?' * len(schema.COLUMNS))})"
)
_SELECT = f"SELECT {schema.NAMES} FROM uploads "  # noqa: S608
_LOAD = _SELECT + "WHERE id = ?"
_LOAD_BOUND = (
    f"{_SELECT}WHERE binding = ? ORDER BY {schema.IS_UNFINISHED} DESC, created_at DESC,"
    " id DESC LIMIT 1"
)
_EXPIRED = (
    f"{_SELECT}WHERE expires_at <= ? AND (notify_at IS NULL OR NOT {schema.HAS_ENDED})"
    " ORDER BY expires_at, id LIMIT ?"
)
_UNNOTIFIED = f"{_SELECT}WHERE notify_at <= ? AND {schema.HAS_ENDED} ORDER BY notify_at, id LIMIT ?"
_PAGE = _SELECT + "WHERE id > ? ORDER BY id LIMIT ?"
_PAGE_OF_STATE = _SELECT + "WHERE state = ? AND id > ? ORDER BY id LIMIT ?"
_ADVANCE = 'UPDATE uploads SET "offset" = ?, expires_at = ?, version = version + 1 WHERE id = ?'


class SqliteSessions:
    """The port `Sessions` on a SQLite database.

    `path`: the database, made when it is missing. `wake_folder`: the folder of the processes'
    sockets, the same for all that share the database. `busy_timeout`: seconds to wait for other
    processes before SessionsUnavailable. Nothing is opened before `open`, so an instance may be
    made before a fork.
    """

    def __init__(
        self,
        path: str,
        durability: Durability,
        wake_folder: str,
        *,
        busy_timeout: float = 10.0,
    ) -> None:
        self._writer = Writer(path, durability, busy_timeout)
        self._wakeups = Wakeups(wake_folder)
        self._reader = _AwakeReader(path, durability, busy_timeout, self._wakeups)
        self._writes: BatchThread | None = None
        self._reads: BatchThread | None = None
        self._callbacks: list[Callable[[str], None]] = []
        self._closing: asyncio.Task[None] | None = None

    @property
    def commits(self) -> int:
        """How many transactions this process has committed."""
        return self._writer.commits

    async def open(self) -> None:
        """Raises StorageError, which says what is wrong with the database or the folder."""
        self._closing = None
        try:
            self._writes = BatchThread("forebay-sessions-write", self._writer)
            await self._writes.start()
            # After the writer, which makes the schema.
            self._reads = BatchThread("forebay-sessions-read", self._reader)
            await self._reads.start()
            self._wakeups.listen(asyncio.get_running_loop(), self._release_asked)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        # It goes on when this call is cancelled; another call waits for the same task.
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._wakeups.stop_listening(asyncio.get_running_loop())
        for thread in (self._reads, self._writes):
            if thread is not None:
                await thread.stop()

    def close_now(self) -> None:
        for thread in (self._reads, self._writes):
            if thread is not None:
                thread.close_now()

    async def create(self, record: UploadRecord) -> None:
        await self._write(lambda connection: _create(connection, record))

    async def load(self, upload_id: str) -> UploadRecord:
        return await self._read(lambda connection: _load(connection, upload_id))

    async def load_bound(self, binding: str) -> UploadRecord:
        return await self._read(lambda connection: _one(connection, _LOAD_BOUND, binding))

    async def advance(self, upload_id: str, offset: int, expires_at: float | None) -> UploadRecord:
        return await self._write(
            lambda connection: _advance(connection, upload_id, offset, expires_at)
        )

    async def update(
        self, upload_id: str, *, version: int | None = None, **changes: Any
    ) -> UploadRecord:
        check_changes(changes)
        return await self._write(
            lambda connection: _update(connection, upload_id, version, changes)
        )

    async def delete(self, upload_id: str) -> None:
        await self._write(lambda connection: _delete(connection, upload_id))

    async def expired(self, now: float, limit: int) -> Sequence[UploadRecord]:
        return await self._read(
            lambda connection: _select(connection, _EXPIRED, now, max(limit, 0))
        )

    async def unnotified(self, before: float, limit: int) -> Sequence[UploadRecord]:
        return await self._read(
            lambda connection: _select(connection, _UNNOTIFIED, before, max(limit, 0))
        )

    async def page(
        self, *, state: UploadState | None = None, after: str = "", limit: int = 1000
    ) -> Sequence[UploadRecord]:
        limit = max(limit, 0)  # for SQLite a negative limit is none
        if state is None:
            return await self._read(lambda connection: _select(connection, _PAGE, after, limit))
        return await self._read(
            lambda connection: _select(connection, _PAGE_OF_STATE, state.value, after, limit)
        )

    async def load_many(self, ids: Sequence[str]) -> Sequence[UploadRecord]:
        statement = f"{_SELECT}WHERE id IN ({', '.join('?' * len(ids))})"
        return await self._read(lambda connection: _select(connection, statement, *ids))

    async def count(self) -> int:
        return await self._read(_count)

    async def in_place(self) -> None:
        await self._read(lambda _: self._writer.check_place())

    async def probe(self) -> None:
        await self._read(lambda _: self._writer.look())
        await self._write(_touch)

    async def ask_release(self, upload_id: str) -> None:
        # In the reader's thread: it lists a folder, and the writer's may be in a long commit.
        with contextlib.suppress(UploadError):
            await self._read(lambda _: self._wakeups.ask(upload_id))

    def on_release_asked(self, callback: Callable[[str], None]) -> None:
        self._callbacks.append(callback)

    def _release_asked(self, upload_id: str) -> None:
        for callback in self._callbacks:
            callback(upload_id)

    async def _read(self, operation: Operation[T]) -> T:
        if self._reads is None:
            raise not_open()
        return await self._reads.submit(operation)

    async def _write(self, operation: Operation[T]) -> T:
        if self._writes is None:
            raise not_open()
        return await self._writes.submit(operation)


class _AwakeReader(Reader):
    """The reader; its thread also does the disk operations of the wake-ups."""

    def __init__(
        self, path: str, durability: Durability, busy_timeout: float, wakeups: Wakeups
    ) -> None:
        super().__init__(path, durability, busy_timeout)
        self._wakeups = wakeups

    def open(self) -> None:
        super().open()
        try:
            self._wakeups.join()
        except OSError as error:
            raise from_os_error(error) from error

    def close(self) -> None:
        self._wakeups.leave()
        super().close()


# --- operations: run in a thread; each writes with its last statement or not at all ---


def _create(connection: sqlite3.Connection, record: UploadRecord) -> None:
    try:
        connection.execute(_INSERT, schema.to_row(record))
    except sqlite3.IntegrityError as error:
        # SQLite names one of two broken constraints; the id comes first here.
        if _select(connection, _LOAD, record.id):
            raise AlreadyExists from error
        if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_UNIQUE:
            raise UploadExists from error
        raise


def _touch(connection: sqlite3.Connection) -> None:
    """Writes the value that is there already: a commit that changes nothing."""
    connection.execute(f"PRAGMA user_version = {schema.VERSION}")


def _load(connection: sqlite3.Connection, upload_id: str) -> UploadRecord:
    return _one(connection, _LOAD, upload_id)


def _one(connection: sqlite3.Connection, statement: str, key: str) -> UploadRecord:
    records = _select(connection, statement, key)
    if not records:
        raise NotFound("There is no such upload.")
    return records[0]


def _advance(
    connection: sqlite3.Connection, upload_id: str, offset: int, expires_at: float | None
) -> UploadRecord:
    # Read, then write, as in `_update`; the changed record needs no second read.
    record = _load(connection, upload_id)
    refusal = advance_refusal(record.state, record.offset, offset)
    if refusal is not None:
        raise refusal
    connection.execute(_ADVANCE, (offset, expires_at, upload_id))
    return dataclasses.replace(
        record, offset=offset, expires_at=expires_at, version=record.version + 1
    )


def _update(
    connection: sqlite3.Connection,
    upload_id: str,
    version: int | None,
    changes: dict[str, Any],
) -> UploadRecord:
    # Read, then write: the transaction holds the write lock, so nothing comes between.
    record = _load(connection, upload_id)
    check_version(record, version)
    changes = {**changes, "version": record.version + 1}
    assignments = ", ".join(f'"{name}" = ?' for name in changes)
    try:
        connection.execute(
            f"UPDATE uploads SET {assignments} WHERE id = ?",  # noqa: S608
            (*map(schema.plain, changes.values()), upload_id),
        )
    except sqlite3.IntegrityError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_UNIQUE:
            raise UploadExists from error
        raise
    return dataclasses.replace(record, **changes)


def _delete(connection: sqlite3.Connection, upload_id: str) -> None:
    connection.execute("DELETE FROM uploads WHERE id = ?", (upload_id,))


def _select(
    connection: sqlite3.Connection, statement: str, *arguments: object
) -> list[UploadRecord]:
    # All rows at once: a cursor that is not read to its end keeps an old snapshot open.
    rows = connection.execute(statement, arguments).fetchall()
    return [schema.from_row(row) for row in rows]


def _count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM uploads").fetchall()[0][0])
