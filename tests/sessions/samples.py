"""Records, loops and backends that the tests of this folder share."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from forebay.model import Conflict, Durability, UploadRecord, UploadState
from forebay.sessions.base import Sessions
from forebay.sessions.sqlite.sessions import SqliteSessions

S = TypeVar("S", bound=Sessions)

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def record(upload_id: str = "a", **changes: Any) -> UploadRecord:
    plain = UploadRecord(
        id=upload_id,
        principal="somebody",
        dialect="tus",
        state=UploadState.OPEN,
        offset=0,
        length=1000,
        name="folder/größe.bin",
        created_at=1000.25,
        expires_at=2000.5,
    )
    return dataclasses.replace(plain, **changes)


def full_record() -> UploadRecord:
    """Every field unlike its default, so that one that is not kept shows."""
    full = record(
        state=UploadState.COMPLETING,
        offset=2**62,
        length=None,
        expires_at=None,
        conflict=Conflict.REPLACE,
        media_type="text/plain; charset=utf-8",
        metadata=b"filename d29ybGQ=\x00\xff",
        final_name="folder/größe (1).bin",
        final_size=2**62,
        outcome=b'{"renamed": true}',
        extra=b"\x00\x01",
        version=7,
        binding='["somebody", "folder/größe.bin"]',
        notify_at=1234.5,
        place="key\nmultipart-id",
    )
    for field in dataclasses.fields(UploadRecord):
        if field.default is not dataclasses.MISSING:
            assert getattr(full, field.name) != field.default, f"add {field.name} to this record"
    return full


@contextlib.asynccontextmanager
async def opened(sessions: S) -> AsyncIterator[S]:
    await sessions.open()
    try:
        yield sessions
    finally:
        await sessions.close()


def make(folder: Path, durability: Durability = Durability.RELAXED, **more: Any) -> SqliteSessions:
    return SqliteSessions(str(folder / "state.db"), durability, str(folder / "wake"), **more)


def query(path: Path, statement: str) -> list[Any]:
    """What another program sees in the database."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("as SQLite words it")
    error.sqlite_errorcode, error.sqlite_errorname = code, "SQLITE_X"
    return error
