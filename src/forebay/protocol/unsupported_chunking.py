"""Files that clients cut into pieces, each sent as a request of its own, in terms that are not
spoken here: those of libraries for web pages (by form fields or the query) and of object stores.

Each piece looks like a whole file, and would be stored as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from forebay.errors import InvalidRequest

__all__ = ["NAMES", "check"]

NAMES = frozenset(
    {
        "dztotalchunkcount",  # Dropzone
        "resumableTotalChunks",  # Resumable.js
        "flowTotalChunks",  # Flow.js
        "qqtotalparts",  # Fine Uploader
        "totalChunks",  # simple-uploader
        "chunks",  # Plupload, WebUploader
    }
)
"""Fields that tell how many pieces a file has. A file of one piece is whole."""

_SEVERAL = re.compile(r"0*(?:[2-9]|[1-9][0-9]+)")
_STORES = ({"uploadId", "partNumber"}, {"comp", "blockid"})
"""Names of a query that belong together: Amazon S3, Azure."""


def check(pairs: Iterable[tuple[str, str]]) -> None:
    """That form fields, or the pairs of a query, do not say that the file is a piece of one.

    Raises InvalidRequest.
    """
    given = set()
    for name, value in pairs:
        given.add(name)
        if name in NAMES and _SEVERAL.fullmatch(value.strip()):
            raise _refused(f"{name} says that the file is one of {value.strip()[:20]} pieces")
        if name == "uploadType" and value == "resumable":  # Google
            given |= _STORES[0]
    if any(names <= given for names in _STORES):
        raise _refused("The query says that the body is a piece of a file")


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(
        f"{why}, and nothing here would put them together. Switch chunks off and send the whole "
        "file, or use a client for tus."
    )
