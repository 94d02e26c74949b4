"""One page of a folder's listing, as JSON or as HTML without scripts, safe for any names."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from html import escape
from urllib.parse import quote

from forebay.protocol import names

__all__ = ["FIELDS", "HTML", "Entry", "Page", "as_html", "as_json", "readable_size"]

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.3rem; font-weight: 600; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid #8884; padding: .3rem .8rem .3rem 0; text-align: left; }
td:first-child { overflow-wrap: anywhere; width: 100%; }
.n { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }
form { border: 1px solid #8884; border-radius: .4rem; margin: 1.5rem 0; padding: .8rem; }
nav a { margin-right: 1rem; }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HTML = b"text/html; charset=utf-8"
FIELDS = [
    (
        b"content-security-policy",
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'".encode(),
    ),
    # Not "no-referrer": the form would then come with "Origin: null", which old browsers, that
    # send no Sec-Fetch-Site, do not explain.
    (b"referrer-policy", b"same-origin"),
]
"""Fields of an answer with such HTML, beside its content type."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder in a listing."""

    name: str
    is_folder: bool
    size: int
    """Bytes."""
    modified: datetime
    url: str
    """A path from the server's root, percent-encoded."""


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """Entries in order of their names, read from the store as they are iterated."""

    folder: str
    url: str
    entries: Iterator[Entry]
    first: bool
    end: Callable[[], str | None]
    """After the last entry: the `after` of the next page, or None if there is none."""
    form: str | None = None
    """The `format` of the request, for links to other pages."""


def as_json(page: Page) -> Iterator[bytes]:
    """The body as JSON, entry by entry."""
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


def as_html(page: Page) -> Iterator[bytes]:
    """The body as HTML, entry by entry."""
    title = escape(f"/{page.folder}" if page.folder else "Files")
    yield _bytes(f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{"".join(_trail(page))}</h1>
<form method="post" action="{escape(page.url)}" enctype="multipart/form-data">
<label>Send files here: <input type="file" name="file" multiple required></label>
<button type="submit">Upload</button>
</form>
<table>
<thead><tr><th>Name</th><th class="n">Size</th><th class="n">Changed (UTC)</th></tr></thead>
<tbody>
""")
    empty = True
    for entry in page.entries:
        empty = False
        yield _bytes(_row(entry))
    if empty:
        yield b'<tr><td colspan="3">Nothing here.</td></tr>\n'
    yield _bytes(f"""</tbody>
</table>
{_paging(page)}</body>
</html>
""")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _trail(page: Page) -> Iterator[str]:
    """The names of the folders above, with links, and of this one."""
    parts = page.folder.split("/") if page.folder else []
    root = page.url
    if parts:
        root = page.url[: -len(names.quote_path(page.folder)) - 1]
    yield f'<a href="{escape(root)}">Files</a>' if parts else "Files"
    at = root
    for depth, part in enumerate(parts, 1):
        at += names.quote_path(part) + "/"
        shown = f"<bdi>{escape(part)}</bdi>"
        yield " / " + (shown if depth == len(parts) else f'<a href="{escape(at)}">{shown}</a>')


def _row(entry: Entry) -> str:
    # `bdi`: a name written from right to left does not change the order of what is beside it.
    name = escape(entry.name) + ("/" if entry.is_folder else "")
    size = "" if entry.is_folder else readable_size(entry.size)
    return (
        f'<tr><td><a href="{escape(entry.url)}"><bdi>{name}</bdi></a></td>'
        f'<td class="n" title="{entry.size} bytes">{size}</td>'
        f'<td class="n"><time datetime="{entry.modified.isoformat()}">'
        f"{entry.modified:%Y-%m-%d %H:%M}</time></td></tr>\n"
    )


def _paging(page: Page) -> str:
    links = []
    form = "" if page.form is None else f"format={page.form}"
    if not page.first:
        links.append(f'<a href="{escape(page.url + ("?" + form if form else ""))}">First page</a>')
    following = page.end()
    if following is not None:
        target = f"{page.url}?after={quote(following, safe='')}{'&' if form else ''}{form}"
        links.append(f'<a rel="next" href="{escape(target)}">Next page</a>')
    return f"<nav>{''.join(links)}</nav>\n" if links else ""


def readable_size(size: int) -> str:
    """`size` bytes with three digits or fewer before the point: "512 B", "1.5 MB"."""
    if size < 1000:
        return f"{size} B"
    value, units = size / 1000, iter(("kB", "MB", "GB", "TB", "PB", "EB"))
    unit = next(units)
    while value >= 999.95:
        value /= 1000
        unit = next(units)
    return f"{value:.1f} {unit}"
