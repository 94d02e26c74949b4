"""Has the C library keep a little freed memory, for bodies that come by way of `receive()`.

Their pieces are Python objects of 64 to 256 KiB, made and freed all the time. glibc by itself
gives such memory back to the kernel at once and asks for it again, page by page; that is more
than half of the CPU time that such a body takes (measured: 1.9 s of CPU a GB, 0.75 with this).
See docs/decisions/010.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping

from forebay.model import MiB

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT = 16 * MiB
_MAPPED_FROM = 1 * MiB
_CHOSEN_BY = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_")


def chosen_by_operator(environ: Mapping[str, str]) -> bool:
    """Whether somebody has decided about this for the process (mallopt(3))."""
    tunables = environ.get("GLIBC_TUNABLES", "")
    return "glibc.malloc." in tunables or any(name in environ for name in _CHOSEN_BY)


@functools.cache
def keep_freed_memory() -> bool:
    """At most 16 MiB stay with the process; once, and only with glibc. Whether it was done."""
    if chosen_by_operator(os.environ):
        return False
    import ctypes

    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - others do it differently
        done = library.mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM)
        return bool(done and library.mallopt(_M_TRIM_THRESHOLD, _KEPT))
    except (OSError, AttributeError):
        return False
