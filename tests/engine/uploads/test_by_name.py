"""One living upload for each name and principal, and what a creation does about others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine.running import Wire, body, resumables, running, wish
from forebay.engine.engine import Engine
from forebay.errors import NotFound, UploadExists
from forebay.hooks.python import PythonHooks
from forebay.model import AppendUpload, Principal, UploadRecord, UploadState


async def known(_: UploadRecord) -> bool:
    return True


def first(**more: Any) -> AppendUpload:
    return AppendUpload("", "tus", 0, **more)


@pytest.fixture(params=[True, False], ids=["sqlite", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., None]:
    def run(test: Callable[[Engine], Awaitable[None]], **settings: Any) -> None:
        async def main() -> None:
            async with running(tmp_path, sqlite=request.param, **settings) as engine:
                engine.context.hooks = PythonHooks(
                    lambda access: Principal(access.context.get("who", ""))
                )
                await test(engine)

        asyncio.run(main())

    return run


async def begin(engine: Engine, data: bytes, who: str = "", length: int = 10) -> UploadRecord:
    standing = await resumables(engine).create_with(
        wish(length, by_name=True), first(), body(data), context={"who": who}, announce=known
    )
    return standing.record


def test_each_principal_has_its_own_upload_of_a_name(run: Callable[..., None]) -> None:
    async def test(engine: Engine) -> None:
        find = resumables(engine).by_name.find
        anna = await begin(engine, b"12345", "anna")
        ben = await begin(engine, b"123", "ben")
        assert (await find("f.bin", "append", {"who": "anna"})).id == anna.id
        assert (await find("f.bin", "append", {"who": "ben"})).id == ben.id
        for name, who in (("f.bin", "carl"), ("g.bin", "anna"), ('f.bin", "', "anna")):
            with pytest.raises(NotFound):
                await find(name, "append", {"who": who})
        with pytest.raises(UploadExists) as caught:
            await begin(engine, b"1", "anna")
        assert caught.value.detail == {"expected": 5, "upload": anna.id, "length": 10}

    run(test)


def test_a_beginning_that_brought_nothing_leaves_nothing(run: Callable[..., None]) -> None:
    async def test(engine: Engine) -> None:
        wire = Wire(10)
        wire.cut()
        with pytest.raises(Exception, match="connection ended"):
            await resumables(engine).create_with(
                wish(10, by_name=True), first(), wire.source, announce=known
            )
        with pytest.raises(NotFound):
            await resumables(engine).by_name.find("f.bin", "append", {})
        assert list(engine.store.remains()) == []
        assert (await begin(engine, b"0123456789")).state is UploadState.COMPLETE

    run(test)


def test_what_is_empty_but_held_is_left_alone(run: Callable[..., None]) -> None:
    async def test(engine: Engine) -> None:
        wire = Wire(10)
        running_one = asyncio.create_task(
            resumables(engine).create_with(
                wish(10, by_name=True), first(), wire.source, announce=known
            )
        )
        while not await resumables(engine)._sessions.count():
            await asyncio.sleep(0)
        for _ in range(3):
            with pytest.raises(UploadExists):
                await begin(engine, b"0123456789")
        wire.send(b"abcdefghij", last=True)
        assert (await running_one).complete
        assert list(engine.store.remains()) == []

    run(test)


def test_one_that_expired_makes_way(run: Callable[..., None]) -> None:
    async def test(engine: Engine) -> None:
        old = await begin(engine, b"12345")
        await engine.sessions.update(old.id, expires_at=1.0)  # type: ignore[union-attr]
        new = await begin(engine, b"123")
        assert (await resumables(engine).by_name.find("f.bin", "append", {})).id == new.id
        assert list(engine.store.remains()) == [new.id]

    run(test)


def test_of_many_creations_one_wins(run: Callable[..., None]) -> None:
    async def test(engine: Engine) -> None:
        outcomes = await asyncio.gather(
            *(begin(engine, b"12345") for _ in range(10)), return_exceptions=True
        )
        winners = [found for found in outcomes if isinstance(found, UploadRecord)]
        assert len(winners) == 1
        assert sum(isinstance(found, UploadExists) for found in outcomes) == 9
        assert list(engine.store.remains()) == [winners[0].id]

    run(test)


def test_what_completed_is_found_while_its_file_is_there(run: Callable[..., None]) -> None:
    async def test(engine: Engine) -> None:
        done = await begin(engine, b"0123456789")
        find = resumables(engine).by_name.find
        assert (await find("f.bin", "offset", {})).id == done.id
        engine.store.delete("f.bin")
        with pytest.raises(NotFound):
            await find("f.bin", "offset", {})

    run(test)
