"""The id of a resumable upload, wherever on the wire it stands (invariant 8).

One rule for ids in request paths and for those in header fields: nothing is unescaped, no dot
and no slash can be part of one.
"""

from __future__ import annotations

import re

from forebay.errors import NotFound

__all__ = ["judge_upload_id", "upload_id_of"]

_ID = re.compile(r"[A-Za-z0-9_-]{16,128}\Z")


def judge_upload_id(text: str) -> str:
    """`text` unchanged if it can be an upload's id. Raises NotFound."""
    if _ID.match(text) is None:
        raise NotFound("There is no such upload.")
    return text


def upload_id_of(path: bytes) -> str | None:
    """The id in a path below the uploads' own root; None for the collection itself.

    `path` is as it was sent; slashes around it are dropped. Raises NotFound.
    """
    text = path.strip(b"/").decode("latin-1")
    return judge_upload_id(text) if text else None
