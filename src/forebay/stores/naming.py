"""Which name a file gets: the rules that all backends share. Nothing here has an effect."""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator

from forebay.errors import InvalidName, NameTaken, PreconditionFailed
from forebay.model import Conflict, FileInfo
from forebay.stores.base import Publication

_TRIES = 8
_HINTS = 4096


_IS_UTF8 = sys.getfilesystemencoding().lower() == "utf-8"


def on_disk(name: str) -> bytes:
    """A name as it is on the disk: in UTF-8, whatever the locale of the process is."""
    return name.encode("utf-8", "surrogateescape")


def from_disk(name: str) -> str:
    """A name as the file system calls give it, which decode by the locale."""
    return name if _IS_UTF8 else os.fsencode(name).decode("utf-8", "surrogateescape")


def check_path(path: str) -> None:
    """Raises InvalidName for what could lead out of the root or into a hidden folder.

    Names from the wire are judged before they come here (invariant 8), and more strictly;
    this is the wall behind that judge.
    """
    for part in path.split("/"):
        if not part or part.startswith(".") or "\0" in part:
            raise InvalidName
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise InvalidName from error


def split(name: str) -> tuple[str, str]:
    """The folder ("" is the root) and the name in it. Raises InvalidName."""
    check_path(name)
    folder, _, base = name.rpartition("/")
    return folder, base


def replaces(how: Publication) -> bool:
    """If-Match asks for replacement of what is there, whatever the policy says."""
    if how.preconditions.demands_absence:
        return False
    return how.conflict is Conflict.REPLACE or how.preconditions.demands_presence


def judge(how: Publication, there: FileInfo | None) -> None:
    """Raises NameTaken or PreconditionFailed when `how` does not allow publication now.

    `there` is what has the name; anything that is not a file counts as a folder.
    """
    tag, mtime_ns = (there.tag, there.mtime_ns) if there else (None, 0)
    if how.preconditions and not how.preconditions.permit_write(tag, mtime_ns):
        raise PreconditionFailed
    if there is None:
        return
    replacing = replaces(how)
    if there.is_folder and (replacing or how.conflict is not Conflict.RENAME):
        raise NameTaken("A folder, or something else that is not a file, has that name.")
    if how.conflict in (Conflict.REFUSE, Conflict.AUTO) and not replacing:
        raise NameTaken


class Numbers:
    """Finds a free number for a name that is taken, cheaply however often it is. Thread-safe.

    Args:
        numbered: makes `name (n).ext` of a name and a number.
    """

    def __init__(self, numbered: Callable[[str, int], str]) -> None:
        self._numbered = numbered
        # Where the next free number of a much-used name may be; only ever a hint.
        self._next: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def candidates(self, name: str, taken: Callable[[str], bool]) -> Iterator[tuple[int, str]]:
        """Numbers and the names they make (without folder), without end.

        `taken` tells whether such a name exists now. The caller tries to get each, and
        remembers the one it got.
        """
        with self._lock:
            number = self._next.get(name, 1)
        while True:
            for _ in range(_TRIES):
                yield number, self._base(name, number)
                number += 1
            number = self._search(name, number - 1, taken)

    def remember(self, name: str, number: int) -> None:
        with self._lock:
            self._next[name] = max(number + 1, self._next.get(name, 1))
            self._next.move_to_end(name)
            if len(self._next) > _HINTS:
                self._next.popitem(last=False)

    def _search(self, name: str, low: int, taken: Callable[[str], bool]) -> int:
        """A free number above `low`, which is taken: by doubling, then by halving."""
        step = 1
        while taken(self._base(name, low + step)):
            low += step
            step *= 2
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            if taken(self._base(name, middle)):
                low = middle
            else:
                high = middle
        return high

    def _base(self, name: str, number: int) -> str:
        return self._numbered(name, number).rpartition("/")[2]
