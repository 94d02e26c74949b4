"""A folder as a page: plain HTML without a script, safe whatever the names in it are."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

from forebay.protocol import names

if TYPE_CHECKING:
    from forebay.http.listing import Entry, Page

__all__ = ["FIELDS", "HTML", "as_html", "readable_size"]

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
"""Fields of an answer that has such a page."""


def as_html(page: Page) -> Iterator[bytes]:
    """The body, entry by entry."""
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
    """The folders above, each with its link; the last is this one."""
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
    # `bdi`: a name written from right to left does not turn round what stands beside it.
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
    kept = "" if page.form is None else f"format={page.form}"
    if not page.first:
        links.append(f'<a href="{escape(page.url + ("?" + kept if kept else ""))}">First page</a>')
    following = page.end()
    if following is not None:
        target = f"{page.url}?after={quote(following, safe='')}{'&' if kept else ''}{kept}"
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
