"""Publishing the files of one form: each by itself, or all of them or none.

Where callbacks are recorded in the upload state, each file is published with its own row. Otherwise
all are published in one job of a worker thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from forebay.conditions import NO_PRECONDITIONS
from forebay.engine.files.withdraw import withdraw
from forebay.engine.forms.parts import FormFile
from forebay.engine.outbox.pending import PendingNotification, WholeUpload
from forebay.errors import PreconditionFailed, UploadError
from forebay.model import Conflict, FileInfo, FormPolicy
from forebay.protocol.multipart_parts import add_part_name
from forebay.stores.base import Publication, Published, Store
from forebay.stores.naming import replaces

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.outbox.outbox import Outbox

Planned = list[tuple[FormFile, WholeUpload]]
_Results = list[Published | UploadError]


class FormPublication:
    """Publishes files of one form."""

    def __init__(self, engine: EngineContext, outbox: Outbox, policy: FormPolicy) -> None:
        self._engine = engine
        self._outbox = outbox
        self._policy = policy

    async def publish(self, planned: Planned) -> list[PendingNotification | UploadError]:
        """What became of each. With the policy `all`: raises the first UploadError, and then no
        file is stored.
        """
        for file, upload in planned:
            await file.prepare(upload.command.name)
        if self._outbox.durable is not None:
            return await self._publish_one_by_one(planned)
        publish = _PUBLISHERS[self._policy]
        results = await self._engine.workers.run(publish, self._engine.store, planned)
        return [
            self._outbox.published(upload, result) if isinstance(result, Published) else result
            for (_, upload), result in zip(planned, results, strict=True)
        ]

    async def _publish_one_by_one(
        self, planned: Planned
    ) -> list[PendingNotification | UploadError]:
        run, store = self._engine.workers.run, self._engine.store
        together = self._policy is FormPolicy.ALL
        order = await run(in_order, store, planned) if together else range(len(planned))
        results: dict[int, PendingNotification | UploadError] = {}
        own = OwnFiles(store)
        try:
            for number in order:
                file, upload = planned[number]
                try:
                    upload = await run(own.spared, upload)
                    notification = await self._publish_one(file, upload)
                except UploadError as error:
                    if together:
                        add_part_name(error, file.field, file.filename)
                        raise
                    results[number] = error
                else:
                    own.add(notification.stored.file)
                    results[number] = notification
        except BaseException:
            for result in reversed(results.values()):
                if isinstance(result, UploadError):
                    continue
                if together:
                    await result.take_back()
                else:
                    result.abandon()
            raise
        return [results[number] for number in range(len(planned))]

    async def _publish_one(self, file: FormFile, upload: WholeUpload) -> PendingNotification:
        staged = await self._engine.workers.run(file.spill)
        notification = await self._outbox.publish(staged, upload)
        file.release()
        return notification


# --- in a thread -----------------------------------------------------------------------------


def publish_each(store: Store, planned: Planned) -> _Results:
    """Each file by itself: one that fails does not stop the others."""
    results: _Results = []
    own = OwnFiles(store)
    for file, upload in planned:
        try:
            published = file.publish_now(own.spared(upload).publication)
        except UploadError as error:
            results.append(error)
        else:
            own.add(published.file)
            results.append(published)
    return results


def publish_all(store: Store, planned: Planned) -> _Results:
    """All files, or none. Raises the error of the first that failed."""
    done: dict[int, Published] = {}
    own = OwnFiles(store)
    try:
        for number in in_order(store, planned):
            file, upload = planned[number]
            with about(file):
                done[number] = file.publish_now(own.spared(upload).publication)
            own.add(done[number].file)
    except BaseException:
        for published in reversed(done.values()):
            withdraw(store, published)
        raise
    return [done[number] for number in range(len(planned))]


def in_order(store: Store, planned: Planned) -> list[int]:
    """The order in which to publish all or none. Raises what can be found out before the first."""
    names: set[str] = set()
    for file, upload in planned:
        how = upload.publication
        with about(file):
            store.check_target(how)
            if how.name in names and replaces(how) and how.preconditions.if_match != ():
                _judge_again(how)
            names.add(how.name)
            file.spill()
    # A replacement cannot be taken back: what it replaced is gone. So those come last.
    return sorted(
        range(len(planned)), key=lambda number: _exists(store, planned[number][1].command.name)
    )


@contextlib.contextmanager
def about(file: FormFile) -> Iterator[None]:
    """Names the file in every UploadError that the block raises."""
    try:
        yield
    except UploadError as error:
        add_part_name(error, file.field, file.filename)
        raise


class OwnFiles:
    """The files of one form that are published. One may replace a file that was there, but not
    another file of the same form: the answer names both.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tags: set[str] = set()

    def add(self, file: FileInfo) -> None:
        self._tags.add(file.tag)

    def spared(self, upload: WholeUpload) -> WholeUpload:
        """In a thread: `upload`, with a numbered name where a file of this form has its name.
        Compares the file that is there and not the name: a filesystem may know two spellings of one
        name.
        """
        how = upload.publication
        if not self._tags or not replaces(how):
            return upload
        try:
            there = self._store.stat(how.name)
        except UploadError:
            return upload
        if there.tag not in self._tags or not how.preconditions.permit_write(
            there.tag, there.mtime_ns
        ):
            return upload
        command = dataclasses.replace(
            upload.command, conflict=Conflict.RENAME, preconditions=NO_PRECONDITIONS
        )
        return dataclasses.replace(upload, command=command)


def _judge_again(how: Publication) -> None:
    """Conditions of a second file of the same name are about the file that the first will have
    replaced. If they failed then, that file could not be brought back.
    """
    if how.preconditions:
        raise PreconditionFailed("The condition holds for one file of that name only.")


def _exists(store: Store, name: str) -> bool:
    try:
        store.stat(name)
    except UploadError:
        return False
    return True


_PUBLISHERS: Mapping[FormPolicy, Callable[[Store, Planned], _Results]] = {
    FormPolicy.ALL: publish_all,
    FormPolicy.EACH: publish_each,
}
