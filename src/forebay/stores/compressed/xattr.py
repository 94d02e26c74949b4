"""The mark on a file that is compressed at rest: an extended attribute of its inode.

Never something in the content, which clients choose, nor in the name. It comes and goes with
the inode, so there is no moment when one is there without the other; a link, a rename and a
replacement keep it right. Linux only.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from forebay.stores.naming import on_disk

ATTRIBUTE = "user.forebay.zstd"

_VALUE = re.compile(rb"1 ([0-9]{1,19}) ([0-9]{1,19}) ([A-Za-z0-9_-]{0,128})")


class Mark(NamedTuple):
    """`size`: bytes of content. `origin`: the resumable upload that it came from, if any."""

    size: int
    origin: str


def write_mark(fd: int, mark: Mark, stored: int) -> None:
    """Marks an open file of `stored` bytes. Raises OSError."""
    value = f"1 {mark.size} {stored} {mark.origin}".encode()
    os.setxattr(fd, ATTRIBUTE, value)


def read_mark(file: int | bytes, stored: int) -> Mark | None:
    """The mark of a file of `stored` bytes, by descriptor or path (no link is followed).

    None for one that is as it is; also for one that another program has filled anew since.
    """
    try:
        value = (
            os.getxattr(file, ATTRIBUTE)
            if isinstance(file, int)
            else os.getxattr(file, ATTRIBUTE, follow_symlinks=False)
        )
    except (OSError, AttributeError):  # no mark, no support for any
        return None
    match = _VALUE.fullmatch(value)
    if match is None or int(match[2]) != stored:
        return None
    return Mark(int(match[1]), match[3].decode())


def mark_in(folder_fd: int, base: str, stored: int) -> Mark | None:
    """As `read_mark`, of the file `base` in an open folder."""
    return read_mark(b"/proc/self/fd/%d/%s" % (folder_fd, on_disk(base)), stored)
