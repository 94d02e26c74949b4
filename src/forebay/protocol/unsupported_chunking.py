"""Chunk protocols of other upload libraries and of object stores. They are refused: each chunk is
a request that looks like a whole file, and would be stored as one.
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
"""Form fields with the number of chunks of a file. A file of one chunk is whole."""

_SEVERAL = re.compile(r"0*(?:[2-9]|[1-9][0-9]+)")
_STORES = ({"uploadId", "partNumber"}, {"comp", "blockid"})
"""Query parameters that together mean a chunk: Amazon S3, Azure."""


def check(pairs: Iterable[tuple[str, str]]) -> None:
    """Checks that no form field or query parameter says that the file is a chunk.

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
