"""The mark on a file that is compressed at rest: an attribute that the store below holds for us.

Never something in the content, which clients choose, nor in the name. It comes and goes with
the data, so there is no moment when one is there without the other; a link, a rename and a
replacement leave it right.
"""

from __future__ import annotations

import dataclasses
import re
from typing import NamedTuple

from forebay.model import FileInfo

ATTRIBUTE = "user.forebay.zstd"
"""Its name, in a store of files."""

_VALUE = re.compile(rb"1 ([0-9]{1,19}) ([0-9]{1,19}) ([A-Za-z0-9_-]{0,128})")


class Mark(NamedTuple):
    """`size`: bytes of content. `origin`: the resumable upload that it came from, where Forebay
    0.1.0 wrote it.
    """

    size: int
    origin: str = ""


def format_mark(size: int, stored: int) -> bytes:
    """For a file of `stored` bytes that holds `size` bytes of content."""
    return b"1 %d %d " % (size, stored)


def mark_of(info: FileInfo) -> Mark | None:
    """Of a file as the store below describes it.

    None for one that is as it is; also for one that another program has filled anew since.
    """
    match = _VALUE.fullmatch(info.attribute) if info.attribute else None
    if match is None or int(match[2]) != info.size:
        return None
    return Mark(int(match[1]), match[3].decode())


def described(info: FileInfo) -> FileInfo:
    """A file as it is to those who read its content."""
    mark = mark_of(info)
    if mark is None:
        return info
    return dataclasses.replace(info, size=mark.size, stored_size=info.size, attribute=b"")
