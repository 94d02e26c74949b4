"""Removing published files, with `on_delete`: for every dialect and for applications."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from forebay.conditions import NO_PRECONDITIONS, EntityTag, Preconditions
from forebay.errors import NotFound, PreconditionFailed
from forebay.hooks.base import Deletion
from forebay.model import FileInfo, Principal
from forebay.stores.base import Store

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext

Job = Callable[[], FileInfo]

logger = logging.getLogger("forebay")


class Removal:
    """The deletions of one engine."""

    def __init__(self, engine: EngineContext) -> None:
        self._engine = engine
        self._running: set[asyncio.Task[FileInfo]] = set()

    async def remove(
        self,
        name: str,
        preconditions: Preconditions = NO_PRECONDITIONS,
        *,
        principal: Principal,
        context: Mapping[str, Any] | None = None,
    ) -> FileInfo:
        """Removes a published file of a validated name; what it was. Then calls `on_delete`, also
        when the request has ended meanwhile.

        Does not authorise. Raises NotFound (also for a folder), PreconditionFailed, StorageError.
        """
        return await self._carried_out(
            functools.partial(_delete, self._engine.store, name, preconditions), principal, context
        )

    async def remove_published(
        self,
        file: FileInfo,
        *,
        principal: Principal,
        context: Mapping[str, Any] | None = None,
    ) -> FileInfo:
        """Removes a file if it is still the one that was published, and was not written to. Raises
        PreconditionFailed otherwise, and what `remove` raises.
        """
        return await self._carried_out(
            functools.partial(_delete_published, self._engine.store, file), principal, context
        )

    async def _carried_out(
        self, job: Job, principal: Principal, context: Mapping[str, Any] | None
    ) -> FileInfo:
        removing = asyncio.ensure_future(self._remove(job, principal, context))
        self._running.add(removing)
        removing.add_done_callback(self._running.discard)
        return await asyncio.shield(removing)

    async def _remove(
        self, job: Job, principal: Principal, context: Mapping[str, Any] | None
    ) -> FileInfo:
        engine = self._engine
        file = await engine.workers.run(job)
        if engine.hooks.deletes:
            try:
                await engine.hooks.delete(Deletion(file, principal, context or {}))
            except Exception:
                logger.exception("on_delete failed for %r; the file is gone", file.name)
        return file

    async def close(self) -> None:
        """Waits for deletions whose request has ended."""
        if self._running:
            await asyncio.wait(set(self._running))


def _delete(store: Store, name: str, preconditions: Preconditions) -> FileInfo:
    """In a thread."""
    file = store.stat(name)
    if file.is_folder:
        raise NotFound("There is no such file.", folder=True)
    store.delete(name, preconditions)
    return file


def _delete_published(store: Store, file: FileInfo) -> FileInfo:
    """In a thread."""
    if not file.identity:  # of an upload that ended before identities were kept
        store.delete(file.name, Preconditions(if_match=(EntityTag(file.tag),)))
    elif store.stat(file.name).size == file.size:
        store.delete(file.name, identity=file.identity)
    else:
        raise PreconditionFailed
    return file
