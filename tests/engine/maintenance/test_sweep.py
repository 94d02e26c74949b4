"""The sweep against real crashes: nothing published twice, nothing wanted removed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.completion import PACKED, Place, WatchedStaged, on_a_loop, opened
from engine.crashes import crashed_in
from engine.notifications import wait_for_calls
from engine.running import at, body, resumables, running
from forebay import backends
from forebay.config import Settings
from forebay.engine.maintenance.operator import cancel_upload
from forebay.engine.maintenance.sweep import Sweeper
from forebay.errors import Forbidden, NotFound
from forebay.model import Conflict, Durability, UploadRecord, UploadState
from forebay.stores.base import Publication
from forebay.stores.reading import as_file
from stores.samples import resume

ID = "0123456789abcdef"
OTHER = "fedcba9876543210"
BODY = bytes(range(256)) * 300
POINTS = 12  # before and after: update, publish, update, discard, tell, update
TOLD_ALREADY = (10, 11)


def die(folder: Path, point: int) -> str | None:
    """Completes in a process that dies at `point`; its name, None if it lived."""
    return crashed_in("engine.completion", folder, ID, point)


# --- crashes in the middle of a completion -------------------------------------------------------


@pytest.mark.parametrize("expired", [False, True], ids=["in time", "after its expiry"])
def test_a_sweep_without_callbacks_leaves_the_call_to_who_has_one(
    tmp_path: Path, expired: bool
) -> None:
    """Bug: of one that had expired the data went, so that nobody was ever told."""
    soon = time.time() + 60

    async def before() -> None:
        async with opened(tmp_path) as place:
            await place.create(ID, BODY, expires_at=soon)

    async def after() -> None:
        async with opened(tmp_path) as place:
            await place.sweep(tells=False)
            assert (place.told(), place.staged_ids()) == ([], set())
            await place.sweep(soon + 1, tells=False)
            assert (await place.sessions.load(ID)).notify_at is not None
            await place.sweep(soon + 1 if expired else None)
            assert (place.told(), place.staged_ids()) == ([f"{ID} a.bin"], set())

    asyncio.run(before())
    assert die(tmp_path, 4) == "after publish"
    asyncio.run(after())


@pytest.mark.parametrize("conflict", [Conflict.RENAME, Conflict.REFUSE, Conflict.REPLACE])
@pytest.mark.parametrize("point", range(1, POINTS + 1))
@pytest.mark.parametrize("packed", [False, True])
def test_a_crash_at_any_step_of_a_completion_is_made_good(
    tmp_path: Path, packed: bool, point: int, conflict: Conflict, monkeypatch: pytest.MonkeyPatch
) -> None:
    if packed:
        monkeypatch.setenv(PACKED, "1")

    async def before() -> None:
        async with opened(tmp_path) as place:
            await place.create(ID, BODY, conflict=conflict)

    async def after(where: str) -> None:
        async with opened(tmp_path) as place:
            visible = place.published()
            assert visible in ({}, {"a.bin": BODY})  # never a part
            swept = await place.sweep()
            record = await place.sessions.load(ID)
            if visible:
                assert record.state is UploadState.COMPLETE
                assert (record.final_name, record.final_size) == ("a.bin", len(BODY))
                assert place.staged_ids() == set()
            else:
                assert place.staged_ids() == {ID}, f"died {where}: the data must stay"
                assert swept.repaired == 0
            record = await place.complete(ID)
            assert (record.state, record.final_name) == (UploadState.COMPLETE, "a.bin")
            assert place.published() == {"a.bin": BODY}, f"died {where}"
            assert place.staged_ids() == set()
            assert await place.sweep() == await place.sweep()  # nothing is left to do
            assert (place.store.stat("a.bin").stored_size is not None) is packed
            # Twice only where the crash came between the telling and the note of it.
            assert place.told() == [f"{ID} a.bin"] * (2 if point in TOLD_ALREADY else 1)

    asyncio.run(before())
    where = die(tmp_path, point)
    assert where is not None
    asyncio.run(after(where))


@pytest.mark.parametrize("point", range(4, POINTS + 1))
@pytest.mark.parametrize("command", ["offset", "append", "cancel"])
def test_a_client_that_is_quicker_than_the_sweep_makes_a_crash_good(
    tmp_path: Path, point: int, command: str
) -> None:
    """Bug: the sweep left it in the client's hands, and the client's request left it to the
    next sweep; the data had two names and nobody was told for ten minutes.
    """

    async def before() -> None:
        async with opened(tmp_path) as place:
            await place.create(ID, BODY)

    async def after() -> None:
        async with opened(tmp_path) as place, running(tmp_path) as engine:
            uploads = resumables(engine)
            told: list[str] = []
            engine.hooks.completers.append(  # type: ignore[attr-defined]
                lambda completion: told.append(completion.id)
            )
            await Sweeper(place.store, place.sessions, place.workers, place.locks).repair()
            if command == "offset":
                assert (await uploads.offset(ID)).state is UploadState.COMPLETE
            elif command == "append":
                assert (await uploads.append(at(ID, len(BODY)), body(b""))).complete
            else:
                with pytest.raises(Forbidden):  # it is complete, and stays
                    await uploads.cancel(ID)
            assert place.staged_ids() == set()
            await wait_for_calls(uploads.notifier)
            assert told == ([ID] if point < POINTS else [])
            assert place.published() == {"a.bin": BODY}

    asyncio.run(before())
    assert die(tmp_path, point) is not None
    asyncio.run(after())


@pytest.mark.parametrize("point", [4, 6])
def test_an_operator_who_ends_an_upload_leaves_the_call_about_its_file(
    tmp_path: Path, point: int
) -> None:
    """Bug: `forebay uploads cancel` let go of what only a server can tell of."""

    async def before() -> None:
        async with opened(tmp_path) as place:
            await place.create(ID, BODY)

    async def after() -> None:
        settings = Settings(dir=str(tmp_path), durability=Durability.RELAXED)
        async with backends.opened(settings) as b:
            with pytest.raises(Forbidden):
                await cancel_upload(settings, b.store, b.locks, b.sessions, ID)
        async with opened(tmp_path) as place:
            assert (place.told(), place.staged_ids()) == ([], set())
            await place.sweep()
            assert (place.told(), place.staged_ids()) == ([f"{ID} a.bin"], set())

    asyncio.run(before())
    assert die(tmp_path, point) in ("after publish", "after update")
    asyncio.run(after())


def test_there_are_no_more_steps_than_are_crashed_at(tmp_path: Path) -> None:
    async def before() -> None:
        async with opened(tmp_path) as place:
            await place.create(ID, BODY)

    asyncio.run(before())
    assert die(tmp_path, POINTS + 1) is None


@pytest.mark.parametrize("point", [1, 2, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16])
def test_a_crash_while_names_collide_gives_one_name(tmp_path: Path, point: int) -> None:
    taken = {"a.bin": b"somebody's", "a (1).bin": b"somebody else's"}

    async def before() -> None:
        async with opened(tmp_path) as place:
            await place.create(ID, BODY)
        for name, content in taken.items():
            (tmp_path / name).write_bytes(content)

    async def after() -> None:
        async with opened(tmp_path) as place:
            await place.sweep()
            record = await place.complete(ID)
            assert record.final_name == "a (2).bin"
            assert place.published() == {**taken, "a (2).bin": BODY}
            assert place.staged_ids() == set()
            assert set(place.told()) == {f"{ID} a (2).bin"}

    asyncio.run(before())
    die(tmp_path, point)
    asyncio.run(after())


@on_a_loop
async def test_each_candidate_is_recorded_before_it_is_linked(tmp_path: Path) -> None:
    tried: list[str] = []
    loop = asyncio.get_running_loop()
    async with opened(tmp_path) as place:
        record = await place.create(ID, BODY, name="folder/a.bin")
        (tmp_path / "folder").mkdir()
        for name in ("a.bin", "a (1).bin"):
            (tmp_path / "folder" / name).write_bytes(b"taken")

        def look(how: Publication) -> None:
            now = asyncio.run_coroutine_threadsafe(place.sessions.load(ID), loop).result(30)
            assert now.state is UploadState.COMPLETING
            assert now.final_name == how.name
            assert how.conflict is Conflict.REFUSE  # the store must not choose another name
            tried.append(how.name)
            if len(tried) == 1:  # somebody is quicker, between the record and the link
                (tmp_path / how.name).write_bytes(b"quicker")

        async with place.accesses().open_idle(record.id) as access:
            access.lock.claim.staged = WatchedStaged(access.staged, look)  # type: ignore[assignment]
            await place.finisher().finish(access)
            done = access.record
        assert tried == ["folder/a (2).bin", "folder/a (3).bin"]
        assert done.final_name == "folder/a (3).bin"
        assert (tmp_path / "folder" / "a (3).bin").read_bytes() == BODY


@on_a_loop
async def test_a_name_that_somebody_else_took_is_not_repaired_to(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        record = await place.create(ID, BODY)
        await place.sessions.update(
            ID, version=record.version, state=UploadState.COMPLETING, final_name="a.bin"
        )
        (tmp_path / "a.bin").write_bytes(BODY)  # the same bytes, but not this upload
        swept = await place.sweep()
        assert swept.repaired == 0
        assert (await place.sessions.load(ID)).state is UploadState.COMPLETING
        assert place.staged_ids() == {ID}


# --- what goes and what stays --------------------------------------------------------------------


@on_a_loop
async def test_expired_uploads_go_and_others_stay(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        now = time.time()
        await place.create(ID, BODY, expires_at=now - 1)
        await place.create(OTHER, BODY, expires_at=now + 1000)
        swept = await place.sweep(now)
        assert (swept.expired, swept.busy) == (1, 0)
        assert place.staged_ids() == {OTHER}
        with pytest.raises(NotFound):
            await place.sessions.load(ID)
        assert (await place.sessions.load(OTHER)).offset == len(BODY)


HOLD = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from stores.samples import begin, resume
from forebay.protocol.names import numbered
from forebay.stores.files.store import FileStore
store = FileStore(sys.argv[1], numbered=numbered)
_, _, upload, offset = sys.argv
staged = begin(store, upload) if offset == "new" else resume(store, upload, int(offset))
print("held", flush=True)
sys.stdin.readline()
"""


class Holder:
    """Another process that holds an upload as its writer, until it is killed."""

    def __init__(self, folder: Path, upload_id: str, offset: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder), upload_id, offset],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@on_a_loop
async def test_an_expired_upload_stays_while_another_process_writes_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        await place.create(ID, BODY, expires_at=time.time() - 10)
        with Holder(tmp_path, ID, str(len(BODY))):
            swept = await place.sweep()
            assert swept.expired == 0
            assert swept.busy >= 1
            assert (await place.sessions.load(ID)).offset == len(BODY)
            assert place.staged_ids() == {ID}
        swept = await place.sweep()  # its writer is dead: the lock went with it
        assert (swept.expired, swept.busy) == (1, 0)
        assert place.staged_ids() == set()


@on_a_loop
async def test_data_without_a_record_goes_but_not_while_it_is_being_created(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as place:
        with Holder(tmp_path, ID, "new"):  # made, and its record not yet
            swept = await place.sweep()
            assert (swept.orphans, swept.busy) == (0, 1)
            assert place.staged_ids() == {ID}
        swept = await place.sweep()
        assert (swept.orphans, swept.busy) == (1, 0)
        assert place.staged_ids() == set()


@pytest.mark.parametrize(
    ("state", "stays"),
    [
        (UploadState.OPEN, True),
        (UploadState.COMPLETING, True),
        (UploadState.COMPLETE, False),
        (UploadState.FAILED, False),
        (UploadState.CANCELLED, False),
    ],
)
@on_a_loop
async def test_data_stays_as_long_as_somebody_may_ask_for_it(
    tmp_path: Path, state: UploadState, stays: bool
) -> None:
    async with opened(tmp_path) as place:
        await place.create(ID, BODY, state=state)
        swept = await place.sweep()
        assert swept.orphans == (not stays)
        assert place.staged_ids() == ({ID} if stays else set())
        assert (await place.sessions.load(ID)).state is state
        if stays:
            staged = resume(place.store, ID, len(BODY))  # whole, and let go of
            with as_file(staged.seal()) as file:
                assert file.read() == BODY
            staged.close()


class ComingBack:
    """Sessions whose expired uploads are taken up again right after they were listed."""

    def __init__(self, place: Place, later: float) -> None:
        self._place = place
        self._later = later

    def __getattr__(self, name: str) -> object:
        return getattr(self._place.sessions, name)

    async def expired(self, now: float, limit: int) -> Sequence[UploadRecord]:
        found = await self._place.sessions.expired(now, limit)
        for record in found:
            staged = resume(self._place.store, record.id, record.offset)
            staged.write(memoryview(b"more"), record.offset)
            await self._place.sessions.advance(
                record.id, staged.commit(flush=True).offset, self._later
            )
            staged.close()
        return found


@on_a_loop
async def test_an_upload_whose_client_comes_back_during_the_sweep_stays(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        now = time.time()
        await place.create(ID, BODY, expires_at=now - 1)
        sessions = ComingBack(place, now + 1000)
        swept = await Sweeper(place.store, sessions, place.workers, place.locks).run(now)  # type: ignore[arg-type]
        assert swept.expired == 0
        record = await place.sessions.load(ID)
        assert record.offset == len(BODY) + 4
        assert place.staged_ids() == {ID}
        assert (tmp_path / ".forebay" / "uploads" / ID).read_bytes() == BODY + b"more"


@on_a_loop
async def test_more_expired_uploads_than_one_step_takes_all_go(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        past = time.time() - 1
        for number in range(520):
            await place.create(f"{number:016d}", b"x", expires_at=past)
        held = [place.store.claim(f"{number:016d}") for number in (0, 3, 519)]
        swept = await place.sweep()
        assert swept.expired == 517
        for staged in held:
            staged.close()
        assert (await place.sweep()).expired == 3
        assert place.staged_ids() == set()
