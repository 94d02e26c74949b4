"""The rest of a head that is too long: read for the sake of its Origin, and not kept.

Browsers send Origin after the fields of a page's own, so the field that made the head too long
comes before it. Without Origin the page that sent it could not be told.
"""

from __future__ import annotations

from forebay.http.answers import Headers
from forebay.http.head import END
from forebay.protocol import origin

MOST = 1 << 20
"""Bytes that are looked through before the answer goes out without CORS."""
_OVERLAP = 2048
"""An Origin line is not longer than this, name and line breaks included."""


class LongHead:
    """Fed with what arrives, from the head's start on, until it says that it is enough."""

    __slots__ = ("_left", "_tail", "origins")

    def __init__(self) -> None:
        self.origins: Headers = []
        self._tail = b""
        self._left = MOST

    def feed(self, data: bytes) -> bool:
        """Whether the answer can go out."""
        self._left -= len(data)
        text = self._tail + data
        end = text.find(END)
        self.origins = origin.origins_in(text if end < 0 else text[: end + len(END)])
        self._tail = text[-_OVERLAP:]
        return bool(self.origins) or end >= 0 or self._left <= 0
