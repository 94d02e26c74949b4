"""What is in a folder, page by page: for listings over HTTP and for applications."""

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
    """In a thread: at most `limit` files and folders in order of their names, by their names in
    that folder; and what to give as `after` for those that follow, or None. Raises NotFound.

    `since` as in `Store.list_folder`. One `stat` for each, however large the folder is. What no
    request can ask for is left out.
    """
    found = store.list_folder(folder, after=after, limit=limit + 1, since=since)
    following = found[limit - 1].name if len(found) > limit else None
    return [info for info in found[:limit] if _can_be_asked_for(info.name)], following


def _can_be_asked_for(name: str) -> bool:
    """What other programs put there may have names that no request may have."""
    try:
        names.validate_name(name)
    except InvalidName:
        return False
    return True
