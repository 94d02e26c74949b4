"""`on_complete` is called about every published file until it returns."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from engine.completion import on_a_loop
from engine.forms.test_receive import TYPE, file, form, wire
from engine.notifications import call_all, wait_for_calls
from engine.running import at, body, resumables, running, wish
from forebay.engine.engine import Engine
from forebay.engine.forms.request import FormRequest
from forebay.engine.maintenance.operator import describe_callback
from forebay.engine.maintenance.sweep import Sweeper
from forebay.engine.outbox import notifier as notifying
from forebay.engine.outbox.notifier import LONGEST_PAUSE, MANY_FAILURES, pause_after
from forebay.engine.outbox.pending import WholeUpload
from forebay.hooks.base import Completion
from forebay.model import Conflict, Principal, Receive


class Callback:
    """Fails so many times, and notes each call."""

    def __init__(self, engine: Engine, failures: int) -> None:
        self.calls: list[str] = []
        self._failures = failures
        engine.hooks.completers.append(self.call)  # type: ignore[attr-defined]

    def call(self, completion: Completion) -> None:
        self.calls.append(completion.stored.file.name)
        if len(self.calls) <= self._failures:
            raise ValueError("the database is away")


async def whole(engine: Engine) -> None:
    await engine.receive_file(Receive("f.bin", Conflict.REFUSE), body(b"abc"))


async def in_a_form(engine: Engine) -> None:
    async with engine.receive_form(
        wire(form(file("f.bin", b"abc"))), FormRequest(TYPE)
    ) as received:
        await received.publish()


async def kept(engine: Engine) -> None:
    command = Receive("f.bin", Conflict.REFUSE)
    upload = WholeUpload("an-id-of-the-test", command, Principal(), None, time.perf_counter())
    async with engine.receive_body(body(b"abc"), command) as received:
        await (await engine.publish_body(received, upload)).notify()


async def resumed(engine: Engine) -> None:
    record = await resumables(engine).create(wish(3))
    await resumables(engine).append(at(record.id, 0), body(b"abc"))


async def created(engine: Engine) -> None:
    await resumables(engine).create_with(wish(3), at("", 0), body(b"abc"))


async def of_parts(engine: Engine) -> None:
    part = await resumables(engine).create(wish(3, partial=True))
    await resumables(engine).append(at(part.id, 0), body(b"abc"))
    await resumables(engine).create(wish(parts=(part.id,)))


WAYS = [whole, in_a_form, kept, resumed, created, of_parts]


@pytest.mark.parametrize("sqlite", [True, False], ids=["sqlite", "memory"])
@pytest.mark.parametrize("way", WAYS)
@on_a_loop
async def test_a_callback_that_fails_is_called_again_until_it_returns(
    tmp_path: Path, way: Any, sqlite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: it was called once, though it is promised to be at least until it returns."""
    monkeypatch.setattr(notifying, "FIRST_PAUSE", 0.01)
    async with running(tmp_path, sqlite=sqlite) as engine:
        callback = Callback(engine, 2)
        await way(engine)
        assert (tmp_path / "f.bin").read_bytes() == b"abc"
        while len(callback.calls) < 3:
            await asyncio.sleep(0.01)
        await wait_for_calls(resumables(engine).notifier)
        assert callback.calls == ["f.bin"] * 3
        await call_all(resumables(engine).notifier)
        assert len(callback.calls) == 3
        assert list(engine.store.remains()) in ([], await parts_of(engine))


async def parts_of(engine: Engine) -> list[str]:
    assert engine.sessions is not None
    return [r.id for r in await engine.sessions.page() if b'"partial"' in r.extra]


@pytest.mark.parametrize("way", WAYS)
@on_a_loop
async def test_a_callback_that_failed_is_called_after_a_restart(tmp_path: Path, way: Any) -> None:
    async with running(tmp_path) as engine:
        callback = Callback(engine, 1)
        await way(engine)
        assert callback.calls == ["f.bin"]
    async with running(tmp_path) as engine:
        callback = Callback(engine, 0)
        assert engine.sessions is not None
        late = time.time() + 10 * 86400  # long after the upload has expired
        await Sweeper(engine.store, engine.sessions, engine.workers, engine.context.locks).run(late)
        resumables(engine).notifier.start()
        while not callback.calls:
            await asyncio.sleep(0.01)
        await wait_for_calls(resumables(engine).notifier)
        assert callback.calls == ["f.bin"]
        assert await engine.sessions.unnotified(float("inf"), 10) == []


@on_a_loop
async def test_without_state_it_is_called_again_by_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifying, "FIRST_PAUSE", 0.01)
    async with running(tmp_path) as engine:
        await engine.close_uploads()
        callback = Callback(engine, 1)
        for way in (whole, in_a_form, kept):
            callback.calls.clear()
            await way(engine)
            while len(callback.calls) < 2:
                await asyncio.sleep(0.01)
            assert callback.calls == ["f.bin"] * 2
            (tmp_path / "f.bin").unlink()
        await engine.close_uploads()


@on_a_loop
async def test_one_of_two_processes_calls_at_a_time(tmp_path: Path) -> None:
    async with running(tmp_path) as one, running(tmp_path) as other:
        began, go_on = asyncio.Event(), asyncio.Event()

        async def slow(completion: Completion) -> None:
            began.set()
            await go_on.wait()

        one.hooks.completers.append(slow)  # type: ignore[attr-defined]
        callback = Callback(other, 0)
        request = asyncio.create_task(resumed(one))
        await began.wait()
        await call_all(resumables(other).notifier)
        assert callback.calls == []
        go_on.set()
        await request
        await call_all(resumables(other).notifier)
        assert callback.calls == []


@on_a_loop
async def test_while_another_process_calls_it_is_tried_now_and_then_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as one, running(tmp_path) as other:
        began, go_on = asyncio.Event(), asyncio.Event()

        async def slow(completion: Completion) -> None:
            began.set()
            await go_on.wait()

        one.hooks.completers.append(slow)  # type: ignore[attr-defined]
        callback, tried = Callback(other, 0), []
        try_acquire = other.context.locks.try_acquire

        def locked(key: str) -> Any:
            tried.append(key)
            return try_acquire(key)

        monkeypatch.setattr(other.context.locks, "try_acquire", locked)
        request = asyncio.create_task(resumed(one))
        await began.wait()
        resumables(other).notifier.start()
        while not tried:
            await asyncio.sleep(0.01)
        await wait_for_calls(resumables(other).notifier)
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert len(tried) == 1
        go_on.set()
        await request
        assert callback.calls == []


@on_a_loop
async def test_callbacks_that_hang_hold_up_no_other_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifying, "PATIENCE", 0.05)
    monkeypatch.setattr(notifying, "_LAST", 0.05)
    never = threading.Event()
    async with running(tmp_path, max_uploads=1) as engine:
        heard: list[str] = []

        def hang(completion: Completion) -> None:
            heard.append(completion.stored.file.name)
            if len(heard) <= 40:
                never.wait()

        engine.hooks.completers.append(hang)  # type: ignore[attr-defined]
        for number in range(41):
            command = Receive(f"{number}.bin", Conflict.REFUSE)
            await engine.receive_file(command, body(b"abc"))
        assert heard == [f"{number}.bin" for number in range(41)]
    async with running(tmp_path) as engine:
        assert engine.sessions is not None
        await Sweeper(engine.store, engine.sessions, engine.workers, engine.context.locks).run(
            time.time()
        )
        assert len(await engine.sessions.unnotified(float("inf"), 100)) == 40
    never.set()


@on_a_loop
async def test_of_several_callbacks_those_that_returned_are_not_called_again(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as engine:
        callback, other = Callback(engine, 1), Callback(engine, 0)
        await whole(engine)
        assert (len(callback.calls), len(other.calls)) == (1, 1)
    async with running(tmp_path) as engine:
        callback, other = Callback(engine, 0), Callback(engine, 0)
        await call_all(resumables(engine).notifier)
        assert (len(callback.calls), len(other.calls)) == (1, 0)


@on_a_loop
async def test_failures_are_shown_and_logged_once_for_each_state(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "forebay")
    async with running(tmp_path) as engine:
        callback = Callback(engine, MANY_FAILURES + 5)
        await resumed(engine)
        assert engine.sessions is not None
        for _ in range(MANY_FAILURES + 4):
            await call_all(resumables(engine).notifier)
        [record] = await engine.sessions.unnotified(float("inf"), 10)
        shown = describe_callback(record)
        assert shown is not None
        assert (shown["failures"], shown["last_error"]) == (
            MANY_FAILURES + 5,
            "ValueError: the database is away",
        )
        await call_all(resumables(engine).notifier)
        assert len(callback.calls) == MANY_FAILURES + 6
        assert describe_callback(await engine.sessions.load(record.id)) is None
    said = [r.message for r in caplog.records if "on_complete" in r.message]
    assert len(said) == 3
    assert "called again" in said[0] and "10 times" in said[1] and "at last" in said[2]


@on_a_loop
async def test_a_file_that_is_deleted_meanwhile_is_told_of_until_its_upload_expires(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, allow_delete=True) as engine:
        callback = Callback(engine, 2)
        record = await resumables(engine).create(wish(3))
        await resumables(engine).append(at(record.id, 0), body(b"abc"))
        await resumables(engine).cancel(record.id)
        assert not (tmp_path / "f.bin").exists()
        sessions = engine.sessions
        assert sessions is not None and record.expires_at is not None
        sweeper = Sweeper(engine.store, sessions, engine.workers, engine.context.locks)
        await sweeper.run(time.time())
        await call_all(resumables(engine).notifier)
        assert callback.calls == ["f.bin"] * 2
        swept = await sweeper.run(record.expires_at + 1)
        assert swept.dropped == 1
        await call_all(resumables(engine).notifier)
        assert len(callback.calls) == 2
        assert await sessions.count() == 0


def test_pauses_double_are_bounded_and_vary() -> None:
    for failures in (1, 5, 20, 10_000):
        pauses = {pause_after(failures) for _ in range(50)}
        middle = min(2.0 ** (min(failures, 30) - 1), LONGEST_PAUSE)
        assert len(pauses) > 1
        assert all(0.5 * middle <= pause <= 1.5 * middle for pause in pauses)
