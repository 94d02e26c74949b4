"""The names in large folders, in order, so that paging does not read a folder for each page."""

from __future__ import annotations

import bisect
import heapq
import os
import threading
import time
from collections import OrderedDict
from itertools import islice
from typing import NamedTuple

from forebay.stores.files.folders import is_listed, names_after, scan
from forebay.stores.naming import from_disk

_MOST = 250_000
"""Names that are cached in all, some 25 MB; a larger folder is read for each page."""
_STABLE = 2 * 10**9
"""Nanoseconds after a folder's last change from when on its time shows any further change.

The time is `ctime`: programs that copy set `mtime` back to what it was.
"""
_RUN = 8192
"""Names sorted at a time: other threads wait for a sort to end."""


class _Cached(NamedTuple):
    changed: int | None
    """The folder's `ctime`, where that shows any later change."""
    read_at: float
    names: list[str]


class SortedNames:
    """A cache of what `names_after` finds, valid while a folder does not change. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cached: OrderedDict[tuple[int, int], _Cached] = OrderedDict()

    def after(
        self, folder_fd: int, after: str, limit: int, since: float | None = None
    ) -> list[str]:
        """The first `limit` visible names after `after`, sorted. Raises OSError.

        With `since`, as they were at that `time.monotonic()` or later.
        """
        status = os.fstat(folder_fd)
        key = (status.st_dev, status.st_ino)
        names = self._known(key, status.st_ctime_ns, since)
        if names is None:
            begun, read_at = time.time_ns(), time.monotonic()
            names = self._read(folder_fd)
            if names is None:
                return names_after(folder_fd, after, limit)
            if len(names) > limit:
                stable = begun - status.st_ctime_ns > _STABLE
                self._cache(key, _Cached(status.st_ctime_ns if stable else None, read_at, names))
        start = bisect.bisect_right(names, after)
        return names[start : start + limit]

    def _known(self, key: tuple[int, int], changed: int, since: float | None) -> list[str] | None:
        with self._lock:
            found = self._cached.get(key)
            if found is None:
                return None
            late = since is not None and found.read_at >= since
            if found.changed != changed and not late:
                return None
            self._cached.move_to_end(key)
            return found.names

    def _read(self, folder_fd: int) -> list[str] | None:
        """All names in order; None when they are too many to hold."""
        runs: list[list[str]] = []
        with scan(folder_fd) as entries:
            names = (from_disk(entry.name) for entry in entries if is_listed(entry))
            while run := list(islice(names, _RUN)):
                run.sort()
                runs.append(run)
                if len(runs) * _RUN > _MOST:
                    return None
        return runs[0] if len(runs) == 1 else list(heapq.merge(*runs))

    def _cache(self, key: tuple[int, int], cached: _Cached) -> None:
        with self._lock:
            self._cached.pop(key, None)
            self._cached[key] = cached
            held = sum(len(each.names) for each in self._cached.values())
            while held > _MOST:
                _, dropped = self._cached.popitem(last=False)
                held -= len(dropped.names)
