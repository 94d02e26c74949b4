"""The table of the SQLite backend: one column for each field of UploadRecord, in order.

Columns are derived from the fields, so a new field is declared once, in `forebay.model`. It needs a
default, which is what the rows of older databases get, and a higher `VERSION`. So does a new member
of an enumeration: an older Forebay could not read it. `tests/sessions/sqlite/test_schema.py` checks
both.
"""

from __future__ import annotations

import dataclasses
import enum
import sqlite3
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from forebay.errors import SessionsUnavailable, StorageFailed
from forebay.model import UNFINISHED, UploadRecord, UploadState
from forebay.sessions.records import ENDED

VERSION = 4
APPLICATION_ID = int.from_bytes(b"FBAY", "big")

_SQL_TYPES: dict[type, str] = {str: "TEXT", int: "INTEGER", float: "REAL", bytes: "BLOB"}


def _is_one_of(states: Iterable[UploadState]) -> str:
    return "state IN ({})".format(", ".join(f"'{state}'" for state in states))


IS_UNFINISHED = _is_one_of(UNFINISHED)
HAS_ENDED = _is_one_of(ENDED)
"""Conditions in SQL, as `UploadRecord.is_unfinished` and `records.ENDED`."""
_INDEXES: tuple[tuple[str, str], ...] = (
    # A sweep reads the uploads that are due, and not all.
    (
        "expires_at",
        "CREATE INDEX IF NOT EXISTS uploads_by_expiry ON uploads (expires_at, id)"
        " WHERE expires_at IS NOT NULL",
    ),
    ("state", "CREATE INDEX IF NOT EXISTS uploads_by_state ON uploads (state, id)"),
    # An upload that has ended is not in this index: its binding is free.
    (
        "binding",
        "CREATE UNIQUE INDEX IF NOT EXISTS uploads_bound ON uploads (binding)"
        f" WHERE binding IS NOT NULL AND {IS_UNFINISHED}",
    ),
    (
        "binding",
        "CREATE INDEX IF NOT EXISTS uploads_by_binding ON uploads (binding, created_at)"
        " WHERE binding IS NOT NULL",
    ),
    (
        "notify_at",
        "CREATE INDEX IF NOT EXISTS uploads_to_notify ON uploads (notify_at, id)"
        " WHERE notify_at IS NOT NULL",
    ),
)
"""Each with the newest column that it uses."""


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A field as SQLite stores it."""

    name: str
    definition: str
    read: Callable[[Any], Any] | None
    """Converts a stored value to the field's type; None when they are the same."""


def columns_of(record_type: type) -> tuple[Column, ...]:
    """One column for each field of the dataclass `record_type`, in order.

    Raises TypeError for a field of a type that has no column type.
    """
    hints = typing.get_type_hints(record_type)
    return tuple(_column(field, hints[field.name]) for field in dataclasses.fields(record_type))


def _column(field: dataclasses.Field[Any], hint: Any) -> Column:
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kinds = [member for member in members if member is not types.NoneType]
    base = next((known for known in _SQL_TYPES if issubclass(kinds[0], known)), None)
    if base is None or len(kinds) != 1:
        raise TypeError(f"the field {field.name} has no column type: {hint}")
    parts = [f'"{field.name}"', _SQL_TYPES[base]]
    if len(kinds) == len(members):
        parts.append("NOT NULL")
    if field.name == "id":
        parts.append("PRIMARY KEY")
    if field.default is not dataclasses.MISSING:
        parts.append(f"DEFAULT {_literal(field.default)}")
    read = kinds[0] if issubclass(kinds[0], enum.Enum) else None
    return Column(field.name, " ".join(parts), read)


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    if isinstance(value, str):
        return "'{}'".format(plain(value).replace("'", "''"))
    return repr(value)


def plain(value: Any) -> Any:
    """The value that SQLite stores for a field's value."""
    return value.value if isinstance(value, enum.Enum) else value


COLUMNS = columns_of(UploadRecord)
NAMES = ", ".join(f'"{column.name}"' for column in COLUMNS)


def to_row(record: UploadRecord) -> tuple[Any, ...]:
    """The record's values in the order of `COLUMNS`."""
    return tuple(plain(getattr(record, column.name)) for column in COLUMNS)


def from_row(row: Sequence[Any]) -> UploadRecord:
    """The record of a row selected by `NAMES`. Raises StorageFailed for an unknown value."""
    try:
        return UploadRecord(
            *(
                value if column.read is None or value is None else column.read(value)
                for column, value in zip(COLUMNS, row, strict=True)
            )
        )
    except ValueError as error:
        raise StorageFailed(
            f"The state of upload {row[0]} cannot be read: {error}."
            " Was it written by a newer Forebay?"
        ) from error


def check(connection: sqlite3.Connection, path: str) -> bool:
    """Whether the database has this version; False when it is empty or older.

    Only reads. Raises SessionsUnavailable when it is newer, or of another program.
    """
    version = _number(connection, "PRAGMA user_version")
    application = _number(connection, "PRAGMA application_id")
    empty = _number(connection, "SELECT count(*) FROM sqlite_master") == 0
    if application != APPLICATION_ID and not (empty and version == 0):
        raise SessionsUnavailable(
            f"{path} is a database of another program. Move it away, or serve another folder."
        )
    if version > VERSION:
        raise SessionsUnavailable(
            f"{path} was written by a newer Forebay (its schema is {version}, this one reads up"
            f" to {VERSION}). Run that version; or move the file away together with its -wal and"
            " -shm files: files that are finished are not touched, unfinished uploads begin anew."
        )
    return version == VERSION


def migrate(connection: sqlite3.Connection, path: str, columns: Iterable[Column] = COLUMNS) -> None:
    """Creates the table, or adds to it what older versions did not have, in one transaction.

    Raises sqlite3.Error, and nothing was changed then; what `check` raises.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not check(connection, path):  # another process may have done it meanwhile
            there = tuple(columns)
            _add_columns(connection, there)
            for name, statement in _INDEXES:
                if any(column.name == name for column in there):
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _add_columns(connection: sqlite3.Connection, columns: tuple[Column, ...]) -> None:
    present = {row[1] for row in connection.execute("PRAGMA table_info(uploads)").fetchall()}
    if not present:
        definitions = ", ".join(column.definition for column in columns)
        connection.execute(f"CREATE TABLE uploads ({definitions})")
        return
    for column in columns:
        if column.name not in present:
            connection.execute(f"ALTER TABLE uploads ADD COLUMN {column.definition}")


def _number(connection: sqlite3.Connection, statement: str) -> int:
    return int(connection.execute(statement).fetchall()[0][0])
