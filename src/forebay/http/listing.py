"""The listing of a folder as JSON, page by page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from forebay.errors import InvalidRequest
from forebay.protocol import names
from forebay.stores.base import Store

PAGE = 1000
LARGEST_PAGE = 10_000


def list_folder(store: Store, name: str, query: Mapping[str, str], mount: str) -> dict[str, Any]:
    """In a thread. `?after=NAME&limit=N`; `next` is what to ask for next, or null."""
    try:
        limit = int(query.get("limit", PAGE))
    except ValueError:
        limit = 0
    if not 1 <= limit <= LARGEST_PAGE:
        raise InvalidRequest(f"limit must be a number from 1 to {LARGEST_PAGE}.")
    found = store.list_folder(name, after=query.get("after", ""), limit=limit + 1)
    base = f"{mount}/{names.quote_path(name)}/" if name else f"{mount}/"
    entries = [
        {
            "name": info.name,
            "folder": info.is_folder,
            "size": info.size,
            "modified": datetime.fromtimestamp(info.mtime_ns / 1e9, UTC).isoformat(),
            "url": base + names.quote_path(info.name) + ("/" if info.is_folder else ""),
        }
        for info in found[:limit]
    ]
    more = len(found) > limit
    return {"folder": name, "entries": entries, "next": entries[-1]["name"] if more else None}
