"""The rest of a head that is too long: searched for its Origin, and dropped.

Browsers send Origin after the fields that a page sets, so the field that is too long comes before
it. Without its Origin, the page could not read the answer.
"""

from __future__ import annotations

from forebay.http.answers import Headers
from forebay.http.head import END
from forebay.protocol import origin

MOST = 1 << 20
"""Bytes that are searched before the answer is sent without CORS."""
_OVERLAP = 2048
"""Most bytes of an Origin line, with its name and line breaks."""


class LongHead:
    """Searches what arrives of one head, from its start on."""

    __slots__ = ("_left", "_tail", "origins")

    def __init__(self) -> None:
        self.origins: Headers = []
        self._tail = b""
        self._left = MOST

    def feed(self, data: bytes) -> bool:
        """Whether the search is over, so that the answer can be sent."""
        self._left -= len(data)
        text = self._tail + data
        end = text.find(END)
        self.origins = origin.origins_in(text if end < 0 else text[: end + len(END)])
        self._tail = text[-_OVERLAP:]
        return bool(self.origins) or end >= 0 or self._left <= 0
