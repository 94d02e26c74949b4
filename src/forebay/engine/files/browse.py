"""Listing folders page by page, for HTTP and for applications."""

from __future__ import annotations

from forebay.errors import InvalidName
from forebay.model import FileInfo
from forebay.protocol import names
from forebay.stores.base import Store

PAGE = 1000
LARGEST_PAGE = 10_000


def read_folder(
    store: Store, folder: str, *, after: str = "", limit: int = PAGE, since: float | None = None
) -> tuple[list[FileInfo], str | None]:
    """In a thread: a page of at most `limit` files and folders, sorted by name; and the `after` of
    the next page, None when there is none. Raises NotFound.

    Their names are those in that folder. `since`: see `Files.list_folder`. Costs one `stat` for
    each, however large the folder is. Names that no request can have are left out.
    """
    found = store.list_folder(folder, after=after, limit=limit + 1, since=since)
    following = found[limit - 1].name if len(found) > limit else None
    return [info for info in found[:limit] if _can_be_asked_for(info.name)], following


def _can_be_asked_for(name: str) -> bool:
    """Other programs may have put names there that no request may have."""
    try:
        names.validate_name(name)
    except InvalidName:
        return False
    return True
