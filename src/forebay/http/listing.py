"""The listing of a folder, page by page: as JSON, or as a page for a browser."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from forebay.engine.browsing import LARGEST_PAGE, PAGE, read_folder
from forebay.errors import InvalidRequest
from forebay.http.answers import Headers
from forebay.http.listing_page import FIELDS, as_html
from forebay.protocol import names
from forebay.protocol.negotiation import prefers_html
from forebay.protocol.status import Answer
from forebay.stores.base import Store

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
    """Entries in order of their names. `next` is what to ask for as `after`, or None."""

    folder: str
    url: str
    entries: list[Entry]
    next: str | None
    first: bool
    form: str | None = None
    """What the request's `format` said, for the links to other pages."""


def answer_listing(
    store: Store, name: str, query: Mapping[str, str], mount: str, headers: Headers
) -> Answer:
    """In a thread. `?after=NAME&limit=N`, 1 to 10000, `&format=html|json`. Raises
    InvalidRequest and NotFound.
    """
    form = query.get("format")
    if form not in (None, "html", "json"):
        raise InvalidRequest("format must be html or json.")
    page = read_page(store, name, query, mount)
    html = prefers_html(headers) if form is None else form == "html"
    kind, body = as_html(page) if html else as_json(page)
    fields = [
        (b"content-type", kind),
        (b"content-length", b"%d" % len(body)),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
        (b"vary", b"Accept"),
    ]
    if html:
        fields += FIELDS
    return Answer(200, tuple(fields), body)


def read_page(store: Store, name: str, query: Mapping[str, str], mount: str) -> Page:
    """In a thread: one `stat` for each entry of the page, however large the folder is."""
    given = query.get("limit", str(PAGE))
    limit = int(given) if _NUMBER.fullmatch(given) else 0
    if not 1 <= limit <= LARGEST_PAGE:
        raise InvalidRequest(f"limit must be a number from 1 to {LARGEST_PAGE}.")
    after = query.get("after", "")
    found, following = read_folder(store, name, after=after, limit=limit)
    base = f"{mount}/{names.quote_path(name)}/" if name else f"{mount}/"
    entries = [
        Entry(
            info.name,
            info.is_folder,
            info.size,
            _time(info.mtime_ns),
            base + names.quote_path(info.name) + ("/" if info.is_folder else ""),
        )
        for info in found
    ]
    return Page(name, base, entries, following, not after, query.get("format"))


def _time(mtime_ns: int) -> datetime:
    """A file may have any time at all; what no calendar knows is shown as its end."""
    return datetime.fromtimestamp(max(_FIRST_TIME, min(mtime_ns / 1e9, _LAST_TIME)), UTC)


def as_json(page: Page) -> tuple[bytes, bytes]:
    """Media type and body. An entry at a time: one long call would hold up the event loop."""
    entries = ", ".join(
        json.dumps(
            {
                "name": entry.name,
                "folder": entry.is_folder,
                "size": entry.size,
                "modified": entry.modified.isoformat(),
                "url": entry.url,
            },
            ensure_ascii=False,
        )
        for entry in page.entries
    )
    folder, following = json.dumps(page.folder), json.dumps(page.next)
    text = f'{{"folder": {folder}, "entries": [{entries}], "next": {following}}}\n'
    return b"application/json", text.encode("utf-8", "surrogateescape")
