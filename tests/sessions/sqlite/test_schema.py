"""The database's columns follow UploadRecord, and old databases follow the columns."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import sqlite3
from pathlib import Path

import pytest

from forebay.errors import SessionsUnavailable, StorageFailed, UploadExists
from forebay.model import UploadRecord
from forebay.sessions.sqlite import schema

from ..samples import full_record, make, opened, query, record

FORMATS = {
    1: "id principal dialect state(cancelled complete completing failed open) offset length name"
    " created_at expires_at conflict(auto refuse rename replace) media_type metadata final_name"
    " final_size outcome extra version",
    2: "id principal dialect state(cancelled complete completing failed open) offset length name"
    " created_at expires_at conflict(auto refuse rename replace) media_type metadata final_name"
    " final_size outcome extra version binding",
    3: "id principal dialect state(cancelled complete completing failed open) offset length name"
    " created_at expires_at conflict(auto refuse rename replace) media_type metadata final_name"
    " final_size outcome extra version binding notify_at",
    4: "id principal dialect state(cancelled complete completing failed open) offset length name"
    " created_at expires_at conflict(auto refuse rename replace) media_type metadata final_name"
    " final_size outcome extra version binding notify_at place",
}
"""What a database of each schema version holds; entries are added, never changed."""


def described(column: schema.Column) -> str:
    if column.read is None:
        return column.name
    assert isinstance(column.read, enum.EnumType)
    return f"{column.name}({' '.join(sorted(member.value for member in column.read))})"


def test_another_field_or_state_is_another_schema_version() -> None:
    now = sorted(" ".join(map(described, schema.COLUMNS)).replace(" ", "\n").split("\n"))
    written = sorted(FORMATS[schema.VERSION].split())
    assert now == written, "raise schema.VERSION and add what it holds to FORMATS"


def test_every_field_has_a_column_in_a_new_database(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(make(tmp_path)) as sessions:
            await sessions.create(full_record())

    asyncio.run(main())
    columns = [row[1] for row in query(tmp_path / "state.db", "PRAGMA table_info(uploads)")]
    assert columns == [field.name for field in dataclasses.fields(UploadRecord)]
    row = query(tmp_path / "state.db", "SELECT * FROM uploads")[0]
    assert row == tuple(map(schema.plain, dataclasses.astuple(full_record())))


@pytest.mark.parametrize("missing", [1, 3, 8])
def test_an_older_database_gets_the_new_fields_with_their_defaults(
    tmp_path: Path, missing: int
) -> None:
    names = ", ".join(f'"{column.name}"' for column in schema.COLUMNS[:-missing])
    old = record("old", offset=5)
    with contextlib.closing(
        sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    ) as connection:
        schema.migrate(connection, "state.db", schema.COLUMNS[:-missing])
        values = schema.to_row(old)[:-missing]
        marks = ", ".join("?" * len(values))
        connection.execute(f"INSERT INTO uploads ({names}) VALUES ({marks})", values)
        connection.execute(f"PRAGMA user_version = {schema.VERSION - 1}")

    async def main() -> None:
        async with opened(make(tmp_path)) as sessions:
            assert await sessions.load("old") == old
            await sessions.create(full_record())
            assert await sessions.load("a") == full_record()

    asyncio.run(main())
    assert query(tmp_path / "state.db", "PRAGMA user_version") == [(schema.VERSION,)]


FIRST = """
CREATE TABLE uploads ("id" TEXT NOT NULL PRIMARY KEY, "principal" TEXT NOT NULL,
 "dialect" TEXT NOT NULL, "state" TEXT NOT NULL, "offset" INTEGER NOT NULL, "length" INTEGER,
 "name" TEXT NOT NULL, "created_at" REAL NOT NULL, "expires_at" REAL,
 "conflict" TEXT NOT NULL DEFAULT 'rename', "media_type" TEXT DEFAULT NULL,
 "metadata" BLOB NOT NULL DEFAULT X'', "final_name" TEXT DEFAULT NULL,
 "final_size" INTEGER DEFAULT NULL, "outcome" BLOB NOT NULL DEFAULT X'',
 "extra" BLOB NOT NULL DEFAULT X'', "version" INTEGER NOT NULL DEFAULT 1);
CREATE INDEX uploads_by_expiry ON uploads (expires_at, id) WHERE expires_at IS NOT NULL;
CREATE INDEX uploads_by_state ON uploads (state, id);
INSERT INTO uploads (id, principal, dialect, state, "offset", length, name, created_at)
 VALUES ('one', '', 'tus', 'open', 5, 10, 'f', 1.0), ('two', '', 'tus', 'open', 5, 10, 'f', 1.0);
PRAGMA application_id = 1178747225;
PRAGMA user_version = 1;
"""
"""A database as the first schema version wrote it."""
SECOND = (
    FIRST
    + """
ALTER TABLE uploads ADD COLUMN "binding" TEXT DEFAULT NULL;
CREATE UNIQUE INDEX uploads_bound ON uploads (binding)
 WHERE binding IS NOT NULL AND state IN ('open', 'completing');
CREATE INDEX uploads_by_binding ON uploads (binding, created_at) WHERE binding IS NOT NULL;
PRAGMA user_version = 2;
"""
)
THIRD = (Path(__file__).parent / "data" / "state-0.1.0.sql").read_text()


@pytest.mark.parametrize("script", [FIRST, SECOND], ids=["1", "2"])
def test_a_database_of_the_first_versions_is_brought_up_to_now(tmp_path: Path, script: str) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        connection.executescript(script)

    async def main() -> None:
        async with opened(make(tmp_path)) as sessions:
            for name in ("one", "two"):  # of one name, and bound to none
                assert (await sessions.load(name)).binding is None
                await sessions.advance(name, 6, None)
            await sessions.create(record("a", binding="f"))
            with pytest.raises(UploadExists):
                await sessions.create(record("b", binding="f"))
            assert (await sessions.load_bound("f")).id == "a"

    asyncio.run(main())
    assert query(tmp_path / "state.db", "PRAGMA user_version") == [(schema.VERSION,)]


def test_a_database_of_0_1_0_is_brought_up_to_now(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        connection.executescript(THIRD)
        before = connection.execute("SELECT * FROM uploads ORDER BY id").fetchall()

    async def main() -> None:
        async with opened(make(tmp_path)) as sessions:
            found = await sessions.page()
            assert [schema.to_row(record)[: len(before[0])] for record in found] == before
            assert {record.place for record in found} == {""}
            [pending] = await sessions.unnotified(2e9, 10)
            assert pending.final_name == "pending.bin"

    asyncio.run(main())
    assert query(tmp_path / "state.db", "PRAGMA user_version") == [(schema.VERSION,)]


def test_a_newer_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    async def use() -> None:
        async with opened(make(tmp_path)) as sessions:
            await sessions.create(record())

    asyncio.run(use())
    path = tmp_path / "state.db"
    query(path, f"PRAGMA user_version = {schema.VERSION + 1}")
    query(path, "PRAGMA journal_mode = DELETE")
    before = path.read_bytes()
    with pytest.raises(SessionsUnavailable, match="newer Forebay"):
        asyncio.run(make(tmp_path).open())
    assert path.read_bytes() == before


def test_the_database_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    query(path, "CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(SessionsUnavailable, match="another program"):
        asyncio.run(make(tmp_path).open())
    assert path.read_bytes() == before


def test_a_value_that_is_not_known_fails_its_own_record_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(make(tmp_path)) as sessions:
            await sessions.create(record("a"))
            await sessions.create(record("b"))
            query(tmp_path / "state.db", "UPDATE uploads SET state = 'paused' WHERE id = 'b'")
            with pytest.raises(StorageFailed, match="upload b"):
                await sessions.load("b")
            assert await sessions.load("a") == record("a")

    asyncio.run(main())


def test_a_field_of_a_type_without_a_column_is_noticed() -> None:
    @dataclasses.dataclass
    class Odd:
        id: str
        tags: dict

    with pytest.raises(TypeError, match="tags"):
        schema.columns_of(Odd)


def test_defaults_are_written_as_sql() -> None:
    @dataclasses.dataclass
    class Defaults:
        id: str
        text: str = "it's"
        data: bytes = b"\x00\xff"
        number: int = -3
        ratio: float = 0.5
        nothing: int | None = None

    definitions = ", ".join(column.definition for column in schema.columns_of(Defaults))
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE t ({definitions})")
        connection.execute("INSERT INTO t (id) VALUES ('x')")
        kept = connection.execute("SELECT * FROM t").fetchall()
    assert kept == [dataclasses.astuple(Defaults("x"))]
