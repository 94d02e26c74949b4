"""The files of one form under their names: each by itself, or all or none.

Where somebody is told of files, each end is on record before (`recorded`), so that no crash
swallows the telling. Else all of them are published in one job of a thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from forebay.engine.files.withdraw import withdraw
from forebay.engine.forms.parts import FormFile
from forebay.engine.uploads import outcome
from forebay.errors import PreconditionFailed, UploadError
from forebay.model import (
    NO_PRECONDITIONS,
    About,
    Conflict,
    FormPolicy,
    Principal,
    Receive,
    Stored,
    UploadRecord,
)
from forebay.protocol.multipart_parts import add_part_name
from forebay.stores.base import Publication, Published, Staged, Store
from forebay.stores.naming import replaces

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.outbox.outbox import Outbox
    from forebay.engine.outbox.recorded import RecordedPublication

Planned = list[tuple[FormFile, Publication]]
_Results = list[Published | UploadError]
_Named = TypeVar("_Named", Published, Stored)


class FormPublication:
    """Publishes files of one form; then they are told of, or taken back. `close` it."""

    def __init__(
        self,
        engine: EngineContext,
        outbox: Outbox,
        policy: FormPolicy,
        principal: Principal,
        started: float,
    ) -> None:
        self._engine = engine
        self._outbox = outbox
        self._policy = policy
        self._principal = principal
        self._started = started
        self.waits = False
        """Whether `on_complete` is called is decided later, when this has been closed."""
        self._unnotified: dict[str, tuple[UploadRecord, Staged]] = {}

    async def publish(self, planned: Planned) -> list[Stored | UploadError]:
        """What became of each. With the policy `all`: raises the first UploadError, and then
        none is stored.
        """
        for file, how in planned:
            await file.prepare(how.name)
        recorded = self._outbox.recorded
        if recorded is not None:
            return await self._publish_recorded(planned, recorded)
        publish = _PUBLISHERS[self._policy]
        results = await self._engine.workers.run(publish, self._engine.store, planned)
        return [
            self._stored(file, result) if isinstance(result, Published) else result
            for (file, _), result in zip(planned, results, strict=True)
        ]

    def _stored(self, file: FormFile, published: Published) -> Stored:
        return published.stored(file.digests, self._duration)

    @property
    def _duration(self) -> float:
        return time.perf_counter() - self._started

    async def _publish_recorded(
        self, planned: Planned, recorded: RecordedPublication
    ) -> list[Stored | UploadError]:
        run, store = self._engine.workers.run, self._engine.store
        order = list(range(len(planned)))
        if self._policy is FormPolicy.ALL:
            order = await run(in_order, store, planned)
        results: dict[int, Stored | UploadError] = {}
        own = OwnFiles(store)
        try:
            for number in order:
                file, how = planned[number]
                try:
                    how = await run(own.spared, how)
                    stored = await self._publish_one(file, how, recorded)
                except UploadError as error:
                    if self._policy is FormPolicy.ALL:
                        add_part_name(error, file.field, file.filename)
                        raise
                    results[number] = error
                else:
                    own.add(stored)
                    results[number] = stored
        except BaseException:
            for number, result in reversed(results.items()):
                if isinstance(result, Stored) and self._policy is FormPolicy.ALL:
                    await self.take_back(planned[number][0].id, result)
            raise
        return [results[number] for number in range(len(planned))]

    async def _publish_one(
        self, file: FormFile, how: Publication, recorded: RecordedPublication
    ) -> Stored:
        published = await recorded.publish_body(
            file, file.id, how, self._principal, self._duration, file.about
        )
        self._unnotified[file.id] = published
        stored = outcome.stored(published[0])
        assert stored is not None
        return stored

    async def notify(
        self,
        file_id: str,
        stored: Stored,
        about: About,
        context: Mapping[str, Any] | None,
    ) -> None:
        """`on_complete`, for one file that was published."""
        unnotified = self._unnotified.pop(file_id, None)
        recorded = self._outbox.recorded
        if unnotified is not None and recorded is not None:
            await recorded.notify(*unnotified, context)
            return
        command = Receive(
            stored.file.name, Conflict.REFUSE, media_type=about.media_type, about=about
        )
        await self._outbox.notify(stored, command, self._principal, file_id, context)

    async def take_back(self, file_id: str, stored: Stored) -> None:
        """One file that was published is not wanted any more; nobody is told of it."""
        await self._engine.workers.run(
            withdraw, self._engine.store, stored
        )  # first: should we die here, a sweep forgets the rest
        unnotified = self._unnotified.pop(file_id, None)
        recorded = self._outbox.recorded
        if unnotified is not None and recorded is not None:
            await recorded.forget(*unnotified)

    async def close(self) -> None:
        """For what had no callback called, because the request was cancelled, a sweep does it."""
        while self._unnotified and not self.waits:
            _, (_, staged) = self._unnotified.popitem()
            await self._engine.workers.run(staged.close)


# --- in a thread -----------------------------------------------------------------------------


def publish_each(store: Store, planned: Planned) -> _Results:
    """Every file by itself: one that fails keeps no other from its name."""
    results: _Results = []
    own = OwnFiles(store)
    for file, how in planned:
        try:
            file.settle()
            results.append(own.add(file.publish_now(own.spared(how))))
        except UploadError as error:
            results.append(error)
    return results


def publish_all(store: Store, planned: Planned) -> _Results:
    """All files, or none. Raises what the first that failed raised."""
    done: dict[int, Published] = {}
    own = OwnFiles(store)
    try:
        for number in in_order(store, planned):
            file, how = planned[number]
            with about(file):
                done[number] = own.add(file.publish_now(own.spared(how)))
    except BaseException:
        for published in reversed(done.values()):
            withdraw(store, published)
        raise
    return [done[number] for number in range(len(planned))]


def in_order(store: Store, planned: Planned) -> list[int]:
    """The order in which to publish all or none. Raises what can be told before the first."""
    names: set[str] = set()
    for file, how in planned:
        with about(file):
            store.check_target(how)
            if how.name in names and replaces(how) and how.preconditions.if_match != ():
                _judge_again(how)
            names.add(how.name)
            file.settle()
    # A replacement cannot be taken back: what it replaced is gone. So those come last.
    return sorted(range(len(planned)), key=lambda number: _exists(store, planned[number][1]))


@contextlib.contextmanager
def about(file: FormFile) -> Iterator[None]:
    """What is raised in the block says which file it is about."""
    try:
        yield
    except UploadError as error:
        add_part_name(error, file.field, file.filename)
        raise


class OwnFiles:
    """The files of one form that have their names. One may replace another's file, and never one
    of its own form: the answer tells of both.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tags: set[str] = set()

    def add(self, published: _Named) -> _Named:
        self._tags.add(published.file.tag)
        return published

    def spared(self, how: Publication) -> Publication:
        """In a thread: `how`, with a number for the name where one of ours has it. By what is
        there and not by the name, as a filesystem may know two spellings of one.
        """
        if not self._tags or not replaces(how):
            return how
        try:
            there = self._store.stat(how.name)
        except UploadError:
            return how
        if there.tag not in self._tags or not how.preconditions.permit_write(
            there.tag, there.mtime_ns
        ):
            return how
        return dataclasses.replace(how, conflict=Conflict.RENAME, preconditions=NO_PRECONDITIONS)


def _judge_again(how: Publication) -> None:
    """The second file of a name: its conditions are about what the first will have replaced, which
    nobody can bring back when they fail then.
    """
    if how.preconditions:
        raise PreconditionFailed("The condition holds for one file of that name only.")


def _exists(store: Store, how: Publication) -> bool:
    try:
        store.stat(how.name)
    except UploadError:
        return False
    return True


_PUBLISHERS: Mapping[FormPolicy, Callable[[Store, Planned], _Results]] = {
    FormPolicy.ALL: publish_all,
    FormPolicy.EACH: publish_each,
}
