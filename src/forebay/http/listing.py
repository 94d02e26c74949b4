"""Answers with the listing of a folder, page by page, as JSON or HTML."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from forebay.engine.files.browse import LARGEST_PAGE, PAGE, read_folder
from forebay.errors import InvalidRequest
from forebay.http.answers import Headers, Send
from forebay.http.listing_page import FIELDS, HTML, Entry, Page, as_html, as_json
from forebay.model import FileInfo
from forebay.protocol import names
from forebay.protocol.negotiation import prefers_html
from forebay.stores.base import Store

if TYPE_CHECKING:
    from forebay.engine.engine import Engine

PIECE = 32 << 10
"""Bytes: each piece of a listing but the last has at least so many."""
BATCH = 256
"""Entries read at a time."""
_NUMBER = re.compile(r"[0-9]{1,9}")
_FIRST_TIME, _LAST_TIME = -62_135_596_800, 253_402_300_799  # what a datetime can be


class Listing:
    """One page of a folder, made piece by piece in threads: only one piece and a few hundred
    entries are in memory, however long the page is and however slowly a client reads it.

    `query` may have `after=NAME`, `limit=N` (1 to 10000) and `format=html|json`. Raises
    InvalidRequest and NotFound.
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
        """Whether the first piece is the whole body."""

    @property
    def headers(self) -> Headers:
        length = [(b"content-length", b"%d" % len(self.first))] if self.whole else []
        return [*self._fields[:1], *length, *self._fields[1:]]

    def piece(self) -> bytes:
        """The next piece, shorter than `PIECE` only at the end."""
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

    A piece is made once the previous one is sent, one at a time in the whole process, since making
    it takes CPU time.
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
    """UTC. A file may have any time; one outside of the calendar is shown as its first or last."""
    return datetime.fromtimestamp(max(_FIRST_TIME, min(mtime_ns / 1e9, _LAST_TIME)), UTC)
