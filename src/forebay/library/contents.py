"""The part of `Forebay` that gives the application its stored files and its unfinished uploads."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from forebay.backends import has_state
from forebay.conditions import NO_PRECONDITIONS, EntityTag, Preconditions
from forebay.engine.about import about_of
from forebay.engine.files.browse import LARGEST_PAGE, read_folder
from forebay.errors import NotFound
from forebay.library.lifecycle import Lifecycle
from forebay.library.upload import Upload, upload_of_file
from forebay.model import (
    UNFINISHED,
    FileInfo,
    Metadata,
    Principal,
    Stored,
    UploadRecord,
)
from forebay.protocol import names
from forebay.protocol.upload_ids import validate_upload_id
from forebay.record import is_whole
from forebay.sessions.base import Sessions, each_record


class FilePage(list[FileInfo]):
    """Files and folders in order of their names, each with its whole path."""

    next: str | None = None
    """The value of `after` for the next page; None after the last one."""


class Listing:
    """`await` it for one page, or iterate over all files with `async for`."""

    def __init__(self, read: Callable[[str], Awaitable[FilePage]], after: str) -> None:
        self._read = read
        self._after = after

    def __await__(self) -> Generator[Any, None, FilePage]:
        return self._read(self._after).__await__()

    async def __aiter__(self) -> AsyncIterator[FileInfo]:
        after: str | None = self._after
        while after is not None:
            page = await self._read(after)
            for file in page:
                yield file
            after = page.next


@dataclasses.dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """A resumable upload that is not a file yet."""

    id: str
    name: str
    """The path that it will have, unless that is taken by then."""
    protocol: str
    """`tus`, `ietf` or `content-range`."""
    offset: int
    """Bytes that are committed; more may have arrived."""
    length: int | None
    """Bytes of the whole upload; None when they are not known yet."""
    media_type: str | None
    principal: Principal
    """The client that created it."""
    created: datetime
    """UTC."""
    expires: datetime | None
    """UTC; None: never."""
    metadata: Metadata
    """Upload-Metadata of tus, as in `Upload.metadata`."""


class Contents(Lifecycle):
    """Lists, reads and removes files and uploads for the application itself: `authorise` is not
    called, and `allow_delete`, which is for clients, does not matter.
    """

    # --- files -----------------------------------------------------------------------------------

    def list(self, folder: str = "", *, after: str = "", limit: int = 1000) -> Listing:
        """The files and folders of a folder, in order of their names.

            page = await uploads.list("videos/", limit=100)  # page.next: the next `after`
            async for file in uploads.list("videos/"):  # all files, page by page
                print(file.name, file.size)

        `limit` is the size of a page, 1 to 10,000, else it raises ValueError. Awaiting it raises
        NotFound, InvalidName, StorageError.
        """
        if not 1 <= limit <= LARGEST_PAGE:
            raise ValueError(f"limit must be from 1 to {LARGEST_PAGE}, not {limit}.")
        path = folder.strip("/")
        prefix = f"{path}/" if path else ""

        async def read(after: str) -> FilePage:
            if path:
                names.validate_path(path.split("/"))
            engine = await self.started_engine()
            found, following = await engine.workers.run(
                lambda: read_folder(engine.store, path, after=after, limit=limit)
            )
            page = FilePage(dataclasses.replace(file, name=prefix + file.name) for file in found)
            page.next = following
            return page

        return Listing(read, after.removesuffix("/").rpartition("/")[2])

    async def stat(self, name: str) -> FileInfo:
        """A file or folder: its size and tag. Raises NotFound, InvalidName, StorageError."""
        path = _judged(name)
        engine = await self.started_engine()
        file = await engine.workers.run(engine.store.stat, path)
        return dataclasses.replace(file, name=path)

    async def open(self, name: str) -> Upload:
        """A stored file as an `Upload`, to read it: `await file.read()`, `async for piece in file`,
        or `file.open()` in a thread. Raises NotFound, InvalidName, StorageError.
        """
        file = await self.stat(name)
        if file.is_folder:
            raise NotFound("There is no such file.", folder=True)
        upload = upload_of_file(self.engine, file)
        upload.set_published(Stored(file, renamed=False, replaced=False))
        return upload

    async def delete(
        self,
        name: str,
        *,
        tag: str | None = None,
        principal: Principal | str | int | UUID | None = None,
    ) -> FileInfo:
        """Removes a file and returns what it was. `on_delete` is called.

        With `tag` (`FileInfo.tag`) it is removed only if it still has that tag, else
        PreconditionFailed. `on_delete` is given `principal`; an id is text there. Raises NotFound,
        also for a folder, InvalidName, StorageError.
        """
        path = _judged(name)
        conditions = NO_PRECONDITIONS
        if tag is not None:
            conditions = Preconditions(if_match=(EntityTag(tag),))
        if not isinstance(principal, Principal):
            principal = Principal("" if principal is None else str(principal))
        engine = await self.started_engine()
        file = await engine.removal.remove(path, conditions, principal=principal)
        return dataclasses.replace(file, name=path)

    # --- unfinished uploads ----------------------------------------------------------------------

    async def unfinished(self) -> AsyncIterator[UnfinishedUpload]:
        """All unfinished resumable uploads that are not expired, of all processes.

        Running appends are not disturbed. Raises StorageError.
        """
        sessions = await self._sessions()
        if sessions is not None:
            async for record in each_record(sessions, *UNFINISHED):
                if not is_whole(record):
                    yield _described(record)

    async def cancel(self, upload_id: str) -> UnfinishedUpload:
        """Cancels an unfinished upload of any client, also while it is written to, and removes its
        data. Returns its last state.

        Raises NotFound, WrongState (it has ended), Gone, UploadBusy, StorageError.
        """
        validate_upload_id(upload_id)
        if await self._sessions() is None:
            raise NotFound("There is no such upload.")
        record = await self.engine.uploads.cancel_unfinished(upload_id)
        return _described(record)

    async def _sessions(self) -> Sessions | None:
        """The session store; None when this folder has none and needs none."""
        runtime = await self._started()
        if not runtime.engine.offers_uploads:
            if not runtime.engine.settings.resumable:
                return None
            if not await runtime.engine.workers.run(has_state, runtime.store):
                return None
            await runtime.open_uploads()
        return runtime.engine.sessions


def _judged(name: str) -> str:
    return names.validate_path(name.removesuffix("/").split("/"))


def _described(record: UploadRecord) -> UnfinishedUpload:
    return UnfinishedUpload(
        id=record.id,
        name=record.name,
        protocol=record.dialect,
        offset=record.offset,
        length=record.length,
        media_type=record.media_type,
        principal=Principal(record.principal),
        created=datetime.fromtimestamp(record.created_at, UTC),
        expires=None
        if record.expires_at is None
        else datetime.fromtimestamp(record.expires_at, UTC),
        metadata=about_of(record).metadata,
    )
