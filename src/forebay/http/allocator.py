"""Makes the C library keep some freed memory, for bodies that come through ASGI's `receive()`.

The pieces of such a body are Python objects of 64 to 256 KiB that live for a moment. glibc returns
this memory to the kernel at once and asks for it again, page by page; that is more than half of
the CPU time of such a body (measured: 1.9 s per GB, 0.75 s with this). It applies to the whole
process, so only `forebay serve` does it by itself. See docs/decisions/010 and 033.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping

from forebay.model import MiB

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEEP = 16 * MiB
_MAP_FROM = 1 * MiB
_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_")


def chosen_by_operator(environ: Mapping[str, str]) -> bool:
    """Whether the environment configures the allocator already (mallopt(3))."""
    tunables = environ.get("GLIBC_TUNABLES", "")
    return "glibc.malloc." in tunables or any(name in environ for name in _VARIABLES)


@functools.cache
def keep_freed_memory() -> bool:
    """Lets the process keep at most 16 MiB of freed memory; whether that was done.

    Only with glibc, and only when the operator has not configured the allocator. Idempotent.
    """
    if chosen_by_operator(os.environ):
        return False
    import ctypes

    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - only glibc has this function
        done = library.mallopt(_M_MMAP_THRESHOLD, _MAP_FROM)
        return bool(done and library.mallopt(_M_TRIM_THRESHOLD, _KEEP))
    except (OSError, AttributeError):
        return False
