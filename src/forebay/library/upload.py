"""`Upload`: one file that a client sends, as handlers and callbacks are given it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from forebay.engine.forms.parts import MultiDict
from forebay.engine.outbox.pending import WholeUpload
from forebay.errors import InvalidName, InvalidRequest
from forebay.hooks.request import Request
from forebay.media_types import media_type_of
from forebay.model import (
    NOTHING_SAID,
    About,
    Conflict,
    Digest,
    FileInfo,
    Metadata,
    MiB,
    Principal,
    Receive,
    Stored,
)
from forebay.protocol import fields, ietf, names, raw, tus
from forebay.stores.reading import as_file

if TYPE_CHECKING:
    from forebay.engine.bodies.body import Body
    from forebay.engine.engine import Engine

_PIECE = MiB


class RequestHead(Request):
    """The head of a request, before its body is read."""

    @property
    def length(self) -> int | None:
        """Bytes of the body (Content-Length); None when the length is not announced."""
        return fields.content_length(self.scope["headers"])

    @property
    def media_type(self) -> str | None:
        """Content-Type; None when there is none."""
        return self.headers.get("content-type")

    @property
    def metadata(self) -> Metadata:
        """Upload-Metadata of tus, decoded; empty for any other request."""
        return NOTHING_SAID.metadata

    @property
    def filename(self) -> str | None:
        """The client's name for the file (Content-Disposition, X-Filename); None when there is
        none, or it cannot be the name of a file.
        """
        return usable(raw.client_filename(self.scope["headers"]))


class CreationHead(RequestHead):
    """The head of a request that creates a resumable upload. Its attributes describe the upload,
    not the request's own body.
    """

    def __init__(self, scope: Mapping[str, Any]) -> None:
        super().__init__(scope)
        headers = scope["headers"]
        self._about = NOTHING_SAID
        if tus.speaks(self.method, headers):
            self._about = tus.about(headers)
        else:
            asked = ietf.read(headers)
            length = asked.length
            if length is None and asked.complete:
                length = super().length
            filename, kind = raw.client_filename(headers), self.headers.get("content-type")
            self._about = About(filename, length=length, media_type=kind)

    @property
    def length(self) -> int | None:
        """Bytes of the upload (Upload-Length); None when they are not known yet."""
        return self._about.length

    @property
    def media_type(self) -> str | None:
        """Of the upload: `filetype` of tus, Content-Type of the IETF protocol."""
        return self._about.media_type

    @property
    def metadata(self) -> Metadata:
        """Upload-Metadata of tus, decoded: text when it is UTF-8, else bytes."""
        return self._about.metadata

    @property
    def filename(self) -> str | None:
        """The client's name for the file (Upload-Metadata, Content-Disposition); None when there
        is none, or it cannot be the name of a file.
        """
        return usable(self._about.filename)


def usable(filename: str | None) -> str | None:
    """A client's name for a file; None when it cannot be the name of a file."""
    try:
        return names.from_client_name(filename or "")
    except InvalidName:
        return None


class Upload:
    """A file that is being received, was received, or is published.

    | given to | `name` | `path` | content |
    |---|---|---|---|
    | a handler, with a destination | as published | the file | readable |
    | a handler, without one | the client's name | None | readable until the handler ends |
    | `on_progress` | as requested | None | not readable yet |
    | `on_verify` | as requested | None | readable |
    | `on_complete` | as published | the file | readable |
    """

    def __init__(
        self,
        *,
        id: str = "",  # noqa: A002 (the field's name)
        name: str = "",
        filename: str | None = None,
        size: int = 0,
        length: int | None = None,
        media_type: str | None = None,
        digests: tuple[Digest, ...] = (),
        principal: Principal | None = None,
        head: RequestHead | None = None,
        about: About = NOTHING_SAID,
        engine: Engine | None = None,
        reader: Callable[[], BinaryIO] | None = None,
    ) -> None:
        self.id = id
        """The same in every callback about this upload, also after a crash."""
        self.name = name
        """The file's path under Forebay's folder, with `/` between folders."""
        self.path: str | None = None
        """The file's absolute path on disk, once it is published; None for a store without files. A
        file that is compressed at rest has zstd frames there; reading the upload always gives its
        content.
        """
        self.filename = about.filename if filename is None else filename
        """The client's name for the file, whatever name it got: the last part of a path, as text
        that is safe to show. It may be hidden, reserved or too long. None when there was none.
        """
        self.size = size
        """Bytes received."""
        self.length = length
        """Bytes of the whole file; None when they are not known yet."""
        self.media_type = media_type
        """As the client sent it; None when it sent none."""
        self.metadata = about.metadata
        """Upload-Metadata of tus, by its keys: text when it is UTF-8, else bytes."""
        self.fields: MultiDict[str] = MultiDict(about.fields)
        """The text fields of its form, as far as they have arrived."""
        self.encoded_size: int | None = None
        """Bytes received, when they were decoded (Content-Encoding); else None."""
        self.digests = digests
        """The digests that were requested (`digest="sha256"`)."""
        self.principal = principal or Principal()
        """The client that `authorise` let in."""
        self.renamed = False
        """Whether it got another name because its own was taken."""
        self.replaced = False
        """Whether it replaced a file of the same name."""
        self.head = head
        """The head of the current request; None when a callback runs without one: when it is
        called again, or after a restart.
        """
        self._engine = engine
        self._reader = reader
        self._body: Body | None = None

    def __repr__(self) -> str:
        where = f"path={self.path!r}" if self.path else f"name={self.name!r}"
        return f"<Upload {where} size={self.size}>"

    @property
    def digest(self) -> str | None:
        """The digest that was requested (`digest="sha256"`), in hexadecimal; else None."""
        return self.digests[0].value.hex() if self.digests else None

    # --- content ---------------------------------------------------------------------------------

    def open(self) -> BinaryIO:
        """A new reader at the start; close it. It may wait for the disk, so do not use it on the
        event loop. Raises InvalidRequest when the content is not readable.
        """
        if self._reader is None:
            raise InvalidRequest("The content of this upload cannot be read, or not yet.")
        return self._reader()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The content in pieces of at most 1 MiB."""
        assert self._engine is not None
        run = self._engine.workers.run
        reader = await run(self.open, undo=_close)
        try:
            while piece := await run(reader.read, _PIECE):
                yield piece
        finally:
            await run(reader.close)

    async def read(self) -> bytes:
        """The whole content, in memory. Check `size` first."""
        return b"".join([piece async for piece in self])

    async def move_to(self, to: str, *, conflict: Conflict | str = Conflict.REFUSE) -> Upload:
        """Publishes an upload that was received without a destination: it stays after the handler.
        `on_verify` is called before, `on_complete` after it.

        `to` is a path under Forebay's folder; with a slash at its end it is a folder, in which
        the file gets the client's name. Raises InvalidName, NameTaken, NotAFolder,
        VerificationRefused, StorageError; the upload is still there then.
        """
        if self._body is None:
            raise InvalidRequest(f"The upload is published already, as {self.name!r}.")
        name = self._name_at(to)
        assert self._engine is not None
        upload = WholeUpload(
            self.id,
            Receive(name, Conflict(conflict), media_type=self.media_type, about=self._about),
            self.principal,
            self.head.scope if self.head is not None else None,
            time.perf_counter(),
            self.digests,
        )
        notification = await self._engine.publish_body(self._body, upload)
        self._body = None
        self.set_published(notification.stored)
        await notification.notify()
        return self

    def _name_at(self, to: str) -> str:
        """The checked path of the file for `move_to`. Raises InvalidName."""
        if to.endswith("/"):
            to += usable(self.filename) or f"upload-{self.id[:16]}"
        return names.validate_path(to.split("/"))

    @property
    def _about(self) -> About:
        fields = tuple(self.fields.multi_items())
        return About(self.filename, self.metadata, fields, self.length, self.media_type)

    # --- for the other modules of this package ---------------------------------------------------

    def set_published(self, stored: Stored) -> None:
        """Notes that it is published: a file from now on."""
        assert self._engine is not None
        store, name = self._engine.store, stored.file.name
        self.name = name
        root = getattr(store, "root", None)
        self.path = None if root is None else os.path.join(root, name)
        self.size = self.length = stored.file.size
        self.encoded_size = stored.received
        self.digests = stored.digests or self.digests
        self.renamed, self.replaced = stored.renamed, stored.replaced
        self._reader = lambda: as_file(store.open(name))

    def set_body(self, body: Body) -> None:
        """Notes its received content, which is not published."""
        self._body = body
        self._reader = body.open
        self.size = self.length = body.size


def _close(reader: BinaryIO) -> None:
    reader.close()


def upload_of_file(engine: Engine, file: FileInfo, principal: Principal | None = None) -> Upload:
    """A stored file as an `Upload`; its content is readable once it is `set_published`."""
    return Upload(
        name=file.name,
        filename=file.name.rpartition("/")[2],
        size=file.size,
        length=file.size,
        media_type=media_type_of(file.name),
        principal=principal,
        engine=engine,
    )
