"""`Upload`: one file that a client sends, as an application sees it at every moment."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from forebay.engine.forms.parts import MultiDict
from forebay.errors import InvalidName, InvalidRequest
from forebay.hooks.base import Candidate
from forebay.hooks.request import Request
from forebay.model import NOTHING_SAID, About, Conflict, Digest, Metadata, MiB, Principal, Stored
from forebay.protocol import fields, ietf, names, raw, tus
from forebay.stores.base import Publication
from forebay.stores.reading import as_file

if TYPE_CHECKING:
    from forebay.engine.bodies.body import Body
    from forebay.engine.engine import Engine

_PIECE = MiB


class RequestHead(Request):
    """What is known of a request before its body is read."""

    @property
    def length(self) -> int | None:
        """Bytes of the body as announced; None when the body tells its own end."""
        return fields.content_length(self.scope["headers"])

    @property
    def media_type(self) -> str | None:
        return self.headers.get("content-type")

    @property
    def metadata(self) -> Metadata:
        """Upload-Metadata of tus, decoded; empty for any other request."""
        return NOTHING_SAID.metadata

    @property
    def filename(self) -> str | None:
        """What the client calls the file (Content-Disposition, X-Filename); None when it says
        nothing that can be a name.
        """
        return usable(raw.client_filename(self.scope["headers"]))


class CreationHead(RequestHead):
    """The head of a request that begins a resumable upload: what it says is of the upload, and
    not of the request's own body.
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
        """Of the upload: `filetype` of tus, Content-Type of the IETF's protocol."""
        return self._about.media_type

    @property
    def metadata(self) -> Metadata:
        """Upload-Metadata of tus, decoded: text where it is UTF-8, else bytes."""
        return self._about.metadata

    @property
    def filename(self) -> str | None:
        """What the client calls the file (Upload-Metadata, Content-Disposition); None when it
        says nothing that can be a name.
        """
        return usable(self._about.filename)


def usable(filename: str | None) -> str | None:
    """A client's name for a file, if it can be one."""
    try:
        return names.from_client_name(filename or "")
    except InvalidName:
        return None


class Upload:
    """A file on its way, received, or published; which of them depends on who is given it.

    | given to | `name` | `path` | content |
    |---|---|---|---|
    | a handler, with a destination | as published | the file | may be read |
    | a handler, without one | what the client calls it | None | may be read, until it ends |
    | `on_progress` | as asked for | None | not yet |
    | `on_verify` | as asked for | None | may be read |
    | `on_complete` | as published | the file | may be read |
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
        """The same in all that is told of one upload, also after a crash."""
        self.name = name
        """The file's path under the folder of Forebay, with `/` between folders."""
        self.path: str | None = None
        """The file's absolute path on the disk, once it is published there. What is compressed at
        rest has frames of zstd there; the upload itself is always read as its content.
        """
        self.filename = about.filename if filename is None else filename
        """What the client called the file, whatever name it got: the last part of a path, as text
        that is safe to show; it may be hidden, reserved or too long. None when it did not say.
        """
        self.size = size
        """Bytes received."""
        self.length = length
        """Bytes that it will have in all; None when nobody knows yet."""
        self.media_type = media_type
        self.metadata = about.metadata
        """Upload-Metadata of tus, by its keys: text where it is UTF-8, else bytes."""
        self.fields: MultiDict[str] = MultiDict(about.fields)
        """The text fields of the form that it came in, as far as they have come."""
        self.encoded_size: int | None = None
        """Bytes that came, where they were decoded on the way; else None."""
        self.digests = digests
        self.principal = principal or Principal()
        self.renamed = False
        """Its name was taken, so that it got another one."""
        self.replaced = False
        """It took the place of a file of its name."""
        self.head = head
        """That of the request at hand; None where there is none: when a callback is called again,
        or after a restart.
        """
        self._engine = engine
        self._reader = reader
        self._body: Body | None = None

    def __repr__(self) -> str:
        where = f"path={self.path!r}" if self.path else f"name={self.name!r}"
        return f"<Upload {where} size={self.size}>"

    @property
    def digest(self) -> str | None:
        """The digest that was asked for (`digest="sha256"`), in hexadecimal; else None."""
        return self.digests[0].value.hex() if self.digests else None

    # --- content ---------------------------------------------------------------------------------

    def open(self) -> BinaryIO:
        """A reader at the start; close it. It may wait for the disk: not for the event loop."""
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
        """All of it, in memory. Think of its size first."""
        return b"".join([piece async for piece in self])

    async def move_to(self, to: str, *, conflict: Conflict | str = Conflict.REFUSE) -> Upload:
        """Publishes an upload that was received without a destination; it is kept from then on.
        `on_verify` is asked before, `on_complete` told after it.

        `to` is a path under the folder of Forebay; with a slash at its end a folder, in which
        the file gets the name that the client gave. Raises InvalidName, NameTaken, NotAFolder,
        VerificationRefused, StorageError; the upload is still there then.
        """
        if self._body is None:
            raise InvalidRequest(f"The upload is published already, as {self.name!r}.")
        name = self._name_at(to)
        assert self._engine is not None
        hooks, body = self._engine.hooks, self._body
        context = self.head.scope if self.head is not None else None
        if hooks.verifies:
            await hooks.verify(
                Candidate(
                    name,
                    self.size,
                    self.media_type,
                    self.digests,
                    self.principal,
                    body.open,
                    self.id,
                    self._said,
                    context,
                )
            )
        how = Publication(name, Conflict(conflict))
        await self._engine.publish_body(
            body, how, self.id, self.principal, self._became, context, self._said
        )
        return self

    def _name_at(self, to: str) -> str:
        """The judged path of the file for `move_to`. Raises InvalidName."""
        if to.endswith("/"):
            to += usable(self.filename) or f"upload-{self.id[:16]}"
        return names.validate_path(to.split("/"))

    def _became(self, stored: Stored) -> None:
        self._body = None
        self.published(stored)

    @property
    def _said(self) -> About:
        fields = tuple(self.fields.multi_items())
        return About(self.filename, self.metadata, fields, self.length, self.media_type)

    # --- for the modules beside this one ---------------------------------------------------------

    def published(self, stored: Stored) -> None:
        """It is a file from now on."""
        assert self._engine is not None
        store, name = self._engine.store, stored.file.name
        self.name = name
        self.path = os.path.join(getattr(store, "root", ""), name)
        self.size = self.length = stored.file.size
        self.encoded_size = stored.received
        self.digests = stored.digests or self.digests
        self.renamed, self.replaced = stored.renamed, stored.replaced
        self._reader = lambda: as_file(store.open(name))

    def held(self, body: Body) -> None:
        """Its content is a body without a name."""
        self._body = body
        self._reader = body.open
        self.size = self.length = body.size


def _close(reader: BinaryIO) -> None:
    reader.close()
