"""Rows of whole uploads on every kind of store, which are judged by what is published."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from engine.completion import on_a_loop
from engine.notifications import wait_for_calls
from forebay.config import Settings
from forebay.engine.context import EngineContext
from forebay.engine.outbox.durable import DurableOutbox, recover
from forebay.engine.outbox.notifier import Notifier
from forebay.engine.outbox.pending import WholeUpload
from forebay.engine.transfer.local import stage
from forebay.errors import NameTaken, StorageUnavailable, UploadError
from forebay.model import Conflict, Principal, Receive
from forebay.protocol.names import numbered
from forebay.sessions.memory import MemorySessions
from forebay.stores.base import Publication, Published
from forebay.stores.files.store import FileStore
from forebay.stores.memory import MemoryStore
from objects.service import ObjectService
from objects.store import ObjectStore

BODY = b"x" * 3000
MAKE: dict[str, Callable[[Path], Any]] = {
    "files": lambda folder: FileStore(str(folder), numbered=numbered),
    "memory": lambda _: MemoryStore(numbered=numbered),
    "pieces": lambda _: ObjectStore(ObjectService(least_part=1024), numbered=numbered),
    "direct": lambda _: ObjectStore(ObjectService(least_part=1024), numbered=numbered, direct=True),
}
KINDS = pytest.mark.parametrize("kind", list(MAKE))
CONFLICTS = pytest.mark.parametrize("conflict", [Conflict.RENAME, Conflict.REFUSE])


class Node:
    """An engine's outbox, and the ids that its callback was called with."""

    def __init__(self, store: Any) -> None:
        self.engine = EngineContext(Settings(dir="unused", min_free=0), store)
        self.sessions = MemorySessions()
        self.notifier = Notifier(self.engine, self.sessions)
        self.outbox = DurableOutbox(self.engine, self.sessions, self.notifier)
        self.called: list[str] = []
        hooks: Any = self.engine.hooks
        hooks.completers.append(lambda completion: self.called.append(completion.id))

    async def publish(self, upload_id: str, conflict: Conflict, **breaks: Any) -> Any:
        """Publishes `a.bin`. Whatever `breaks` names is called instead of that method."""
        command = Receive("a.bin", conflict)
        upload = WholeUpload(upload_id, command, Principal(), None, time.perf_counter())

        def staged() -> Any:
            made = stage(self.engine.store, upload.publication, len(BODY))
            for start in range(0, len(BODY), 1000):
                made.write(memoryview(BODY)[start : start + 1000], start)
            return made

        data = await self.engine.workers.run(staged)
        try:
            return await self.outbox.publish(_Broken(data, breaks) if breaks else data, upload)
        except BaseException:
            await self.engine.workers.run(data.discard)
            raise

    async def recover(self, upload_id: str) -> None:
        """As a sweep does."""
        engine = self.engine
        parts = (engine.store, self.sessions, engine.workers, engine.locks)
        recovered = await recover(*parts, upload_id)
        if recovered is not None:
            self.notifier.soon(recovered)
            await wait_for_calls(self.notifier)

    def exists(self, name: str) -> bool:
        with contextlib.suppress(UploadError):
            return bool(self.engine.store.stat(name))
        return False


class _Broken:
    def __init__(self, staged: Any, breaks: dict[str, Any]) -> None:
        self._staged = staged
        self.__dict__ |= {name: lambda *a, c=call: c(staged, *a) for name, call in breaks.items()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._staged, name)


@contextlib.asynccontextmanager
async def node(folder: Path, kind: str) -> AsyncIterator[Node]:
    made = Node(MAKE[kind](folder))
    await made.sessions.open()
    try:
        yield made
    finally:
        await made.notifier.close()
        made.engine.close()
        made.engine.store.close()


@KINDS
@CONFLICTS
@on_a_loop
async def test_a_row_is_there_until_the_callback_has_returned(
    tmp_path: Path, kind: str, conflict: Conflict
) -> None:
    async with node(tmp_path, kind) as one:
        notification = await one.publish("first-0123456789abcdef", conflict)
        assert await one.sessions.count() == 1
        await one.recover("first-0123456789abcdef")  # the process lives
        assert one.called == []
        await notification.notify()
        assert (one.called, await one.sessions.count()) == (["first-0123456789abcdef"], 0)
        if conflict is Conflict.REFUSE:
            with pytest.raises(NameTaken):
                await one.publish("second-0123456789abcdef", conflict)
            assert (one.called, await one.sessions.count()) == (["first-0123456789abcdef"], 0)
        else:
            second = await one.publish("second-0123456789abcdef", conflict)
            assert (second.stored.file.name, second.stored.renamed) == ("a (1).bin", True)
            await second.take_back()
            assert not one.exists("a (1).bin")
            assert (one.called, await one.sessions.count()) == (["first-0123456789abcdef"], 0)


@KINDS
@CONFLICTS
@on_a_loop
async def test_a_dead_process_leaves_a_row_that_is_judged_by_what_is_published(
    tmp_path: Path, kind: str, conflict: Conflict
) -> None:
    async with node(tmp_path, kind) as one:
        notification = await one.publish("published-0123456789abcdef", conflict)
        notification._lock.release()
        await one.recover("published-0123456789abcdef")
        assert (one.called, await one.sessions.count()) == (["published-0123456789abcdef"], 0)
        assert one.exists("a.bin")
        # Another file has that name: what a process left that died before it published its own.
        other = await one.publish("other-0123456789abcdef", Conflict.RENAME)
        record = await one.sessions.load("other-0123456789abcdef")
        await one.sessions.update("other-0123456789abcdef", final_name="a.bin")
        other._lock.release()
        await one.recover("other-0123456789abcdef")
        assert record.final_name == "a (1).bin"
        assert (one.called, await one.sessions.count()) == (["published-0123456789abcdef"], 0)


@KINDS
@CONFLICTS
@on_a_loop
async def test_a_publication_whose_outcome_was_unknown_has_its_callback_called_if_it_happened(
    tmp_path: Path, kind: str, conflict: Conflict
) -> None:
    def published_without_answer(staged: Any, how: Publication) -> Published:
        staged.publish(how)
        raise StorageUnavailable

    def not_published(staged: Any, how: Publication) -> Published:
        raise StorageUnavailable

    async with node(tmp_path, kind) as one:
        with pytest.raises(StorageUnavailable):
            await one.publish("not-0123456789abcdef", conflict, publish=not_published)
        assert (one.called, await one.sessions.count()) == ([], 0)
        assert not one.exists("a.bin")
        with pytest.raises(StorageUnavailable):
            await one.publish("it-is-0123456789abcdef", conflict, publish=published_without_answer)
        await wait_for_calls(one.notifier)
        assert (one.called, await one.sessions.count()) == (["it-is-0123456789abcdef"], 0)
        assert one.exists("a.bin")
