"""The listing of a folder, page by page: as JSON, or as a page for a browser."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from forebay.engine.files.browse import LARGEST_PAGE, PAGE, read_folder
from forebay.errors import InvalidRequest
from forebay.http.answers import Headers, Send
from forebay.http.listing_page import FIELDS, HTML, as_html
from forebay.model import FileInfo
from forebay.protocol import names
from forebay.protocol.negotiation import prefers_html
from forebay.stores.base import Store

if TYPE_CHECKING:
    from forebay.engine.engine import Engine

PIECE = 32 << 10
"""Least bytes of a piece of a listing but the last."""
BATCH = 256
"""Entries that are read at a time."""
_NUMBER = re.compile(r"[0-9]{1,9}")
_FIRST_TIME, _LAST_TIME = -62_135_596_800, 253_402_300_799  # what a datetime can be


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    name: str
    is_folder: bool
    size: int
    modified: datetime
    url: str
    """A path from the server's root, percent-encoded."""


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """Entries in order of their names, read as they are taken."""

    folder: str
    url: str
    entries: Iterator[Entry]
    first: bool
    end: Callable[[], str | None]
    """Once all entries were taken: what to ask for as `after`, or None."""
    form: str | None = None
    """What the request's `format` said, for the links to other pages."""


class Listing:
    """One page of a folder on its way to a client, in pieces: however long it is, and however
    slowly it is read, a piece and a few hundred entries are held. For threads.

    `?after=NAME&limit=N`, 1 to 10000, `&format=html|json`. Raises InvalidRequest and NotFound.
    """

    def __init__(
        self, store: Store, name: str, query: Mapping[str, str], mount: str, headers: Headers
    ) -> None:
        form = query.get("format")
        if form not in (None, "html", "json"):
            raise InvalidRequest("format must be html or json.")
        given = query.get("limit", str(PAGE))
        limit = int(given) if _NUMBER.fullmatch(given) else 0
        if not 1 <= limit <= LARGEST_PAGE:
            raise InvalidRequest(f"limit must be a number from 1 to {LARGEST_PAGE}.")
        self._store, self._name, self._left = store, name, limit
        self._after = query.get("after", "")
        self._since = time.monotonic()
        self._next: str | None = None
        self._url = f"{mount}/{names.quote_path(name)}/" if name else f"{mount}/"
        page = Page(name, self._url, self._entries(), not self._after, self._end, form)
        self._batch = self._read()
        html = prefers_html(headers) if form is None else form == "html"
        self._parts = as_html(page) if html else as_json(page)
        self._fields = [
            (b"content-type", HTML if html else b"application/json"),
            (b"x-content-type-options", b"nosniff"),
            (b"cache-control", b"no-store"),
            (b"vary", b"Accept"),
            *(FIELDS if html else ()),
        ]
        self.first = self.piece()
        """The first piece of the body."""
        self.whole = len(self.first) < PIECE
        """There is no other."""

    @property
    def headers(self) -> Headers:
        length = [(b"content-length", b"%d" % len(self.first))] if self.whole else []
        return [*self._fields[:1], *length, *self._fields[1:]]

    def piece(self) -> bytes:
        """What comes next, less than `PIECE` only at the end."""
        parts, size = [], 0
        for part in self._parts:
            parts.append(part)
            size += len(part)
            if size >= PIECE:
                break
        return b"".join(parts)

    def _read(self) -> list[FileInfo]:
        limit = min(BATCH, self._left)
        found, self._next = read_folder(
            self._store, self._name, after=self._after, limit=limit, since=self._since
        )
        self._left -= limit
        return found

    def _entries(self) -> Iterator[Entry]:
        while True:
            for info in self._batch:
                path = self._url + names.quote_path(info.name) + "/" * info.is_folder
                when = _time(info.mtime_ns)
                yield Entry(info.name, info.is_folder, info.size, when, path)
            if self._next is None or not self._left:
                return
            self._after = self._next
            self._batch = self._read()

    def _end(self) -> str | None:
        return self._next


async def send_listing(
    scope: dict[str, Any],
    send: Send,
    engine: Engine,
    name: str,
    query: Mapping[str, str],
    mount: str,
) -> None:
    """Answers with the listing of a folder. Raises what `Listing` does, before anything is sent.

    A piece is made when the one before it was taken. One is made at a time, as each computes.
    """
    run, alone = engine.workers.run, engine.workers.alone
    async with alone():
        listing = await run(Listing, engine.store, name, query, mount, scope["headers"])
    start = {"type": "http.response.start", "status": 200, "headers": listing.headers}
    await send(start)
    piece = b"" if scope["method"] == "HEAD" else listing.first
    more = bool(piece) and not listing.whole
    while more:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        async with alone():
            piece = await run(listing.piece)
        more = len(piece) >= PIECE
    await send({"type": "http.response.body", "body": piece})


def _time(mtime_ns: int) -> datetime:
    """A file may have any time at all; what no calendar knows is shown as its end."""
    return datetime.fromtimestamp(max(_FIRST_TIME, min(mtime_ns / 1e9, _LAST_TIME)), UTC)


def as_json(page: Page) -> Iterator[bytes]:
    """The body, entry by entry."""
    yield f'{{"folder": {json.dumps(page.folder)}, "entries": ['.encode()
    separator = ""
    for entry in page.entries:
        text = json.dumps(
            {
                "name": entry.name,
                "folder": entry.is_folder,
                "size": entry.size,
                "modified": entry.modified.isoformat(),
                "url": entry.url,
            },
            ensure_ascii=False,
        )
        yield (separator + text).encode("utf-8", "surrogateescape")
        separator = ", "
    yield f'], "next": {json.dumps(page.end())}}}\n'.encode()
