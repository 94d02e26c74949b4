"""What is in the folder, for the application itself: files, and uploads on their way."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from forebay.engine.files.browse import LARGEST_PAGE, read_folder
from forebay.engine.maintenance.sweep import has_state
from forebay.engine.uploads.about import about_of
from forebay.engine.uploads.outcome import is_recorded
from forebay.errors import NotFound
from forebay.library.lifecycle import Lifecycle
from forebay.library.upload import Upload
from forebay.media_types import media_type_of
from forebay.model import (
    NO_PRECONDITIONS,
    UNFINISHED,
    EntityTag,
    FileInfo,
    Metadata,
    Preconditions,
    Principal,
    Stored,
    UploadRecord,
    UploadState,
)
from forebay.protocol import names
from forebay.protocol.upload_ids import validate_upload_id
from forebay.sessions.base import Sessions

_STEP = 500


class FilePage(list[FileInfo]):
    """Files and folders in order of their names, each by its whole path. `next` is what to give
    as `after` for the page that follows; None: there is none.
    """

    next: str | None = None


class Listing:
    """`await` it for one page, or go through all of them with `async for`."""

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
    """A resumable upload that is not yet a file. Sizes are bytes."""

    id: str
    name: str
    """The path that it will have, unless that is taken meanwhile."""
    protocol: str
    """`tus`, `ietf` or `content-range`."""
    offset: int
    """What is committed; what has arrived since is not counted."""
    length: int | None
    media_type: str | None
    principal: Principal
    created: datetime
    expires: datetime | None
    metadata: Metadata
    """Upload-Metadata of tus, as `Upload.metadata` has it."""


class Contents(Lifecycle):
    """The part of `Forebay` that lists, reads and removes. It is for the application: nobody is
    authorised, and `allow_delete` is for clients alone.
    """

    # --- files -----------------------------------------------------------------------------------

    def list(self, folder: str = "", *, after: str = "", limit: int = 1000) -> Listing:
        """The files and folders of a folder, in order of their names.

            page = await uploads.list("videos/", limit=100)  # page.next: the next `after`
            async for file in uploads.list("videos/"):  # all of them, page by page
                print(file.name, file.size)

        `limit` is the size of a page, 1 to 10,000 (else ValueError). Raises NotFound,
        InvalidName, StorageError when it is awaited.
        """
        if not 1 <= limit <= LARGEST_PAGE:
            raise ValueError(f"limit must be from 1 to {LARGEST_PAGE}, not {limit}.")
        path = folder.strip("/")
        prefix = f"{path}/" if path else ""

        async def read(after: str) -> FilePage:
            if path:
                names.validate_path(path.split("/"))
            engine = await self.running_engine()
            found, following = await engine.workers.run(
                lambda: read_folder(engine.store, path, after=after, limit=limit)
            )
            page = FilePage(dataclasses.replace(file, name=prefix + file.name) for file in found)
            page.next = following
            return page

        return Listing(read, after.removesuffix("/").rpartition("/")[2])

    async def stat(self, name: str) -> FileInfo:
        """A file, or a folder. Raises NotFound, InvalidName, StorageError."""
        path = _judged(name)
        engine = await self.running_engine()
        file = await engine.workers.run(engine.store.stat, path)
        return dataclasses.replace(file, name=path)

    async def open(self, name: str) -> Upload:
        """A stored file, to be read as an `Upload` is: `await file.read()`, `async for piece in
        file`, `file.open()` in a thread. Raises NotFound, InvalidName, StorageError.
        """
        file = await self.stat(name)
        if file.is_folder:
            raise NotFound("There is no such file.", folder=True)
        upload = Upload(
            filename=file.name.rpartition("/")[2],
            media_type=media_type_of(file.name),
            engine=self.engine,
        )
        upload.published(Stored(file, renamed=False, replaced=False))
        return upload

    async def delete(
        self,
        name: str,
        *,
        tag: str | None = None,
        principal: Principal | str | int | UUID | None = None,
    ) -> FileInfo:
        """Removes a file; what it was. `on_delete` is told of it.

        With `tag` (`FileInfo.tag`) only if it is still that one, else PreconditionFailed.
        `principal` is who wants it, for `on_delete`: ids are text there, 0 as any other.
        Raises NotFound, also for a folder, InvalidName, StorageError.
        """
        path = _judged(name)
        conditions = NO_PRECONDITIONS
        if tag is not None:
            conditions = Preconditions(if_match=(EntityTag(tag),))
        if not isinstance(principal, Principal):
            principal = Principal("" if principal is None else str(principal))
        engine = await self.running_engine()
        file = await engine.removal.remove(path, conditions, principal=principal)
        return dataclasses.replace(file, name=path)

    # --- uploads on their way --------------------------------------------------------------------

    async def unfinished(self) -> AsyncIterator[UnfinishedUpload]:
        """Resumable uploads that are under way or given up and not yet expired, in any process.

        Nobody who writes to one is disturbed. Raises StorageError.
        """
        sessions = await self._sessions()
        for state in UNFINISHED if sessions is not None else ():
            after = ""
            while page := await _page(sessions, state, after):
                for record in page:
                    if not is_recorded(record):
                        yield _described(record)
                after = page[-1].id

    async def cancel(self, upload_id: str) -> UnfinishedUpload:
        """Ends an upload that is not finished, whoever it belongs to and whoever writes to it;
        as it stood. Its data goes.

        Raises NotFound, WrongState (it has ended), Gone, UploadBusy, StorageError.
        """
        validate_upload_id(upload_id)
        if await self._sessions() is None:
            raise NotFound("There is no such upload.")
        record = await self.engine.uploads.cancel_unfinished(upload_id)
        return _described(record)

    async def _sessions(self) -> Sessions | None:
        """The state of uploads; None when this folder has, and makes, none."""
        running = await self._run()
        if not running.engine.offers_uploads:
            if not running.engine.settings.resumable:
                return None
            if not await running.engine.workers.run(has_state, running.store):
                return None
            await running.open_uploads()
        return running.engine.sessions


async def _page(
    sessions: Sessions | None, state: UploadState, after: str
) -> tuple[UploadRecord, ...]:
    if sessions is None:
        return ()
    return tuple(await sessions.page(state=state, after=after, limit=_STEP))


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
