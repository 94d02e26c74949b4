"""Giving staged data its final name: atomic, whole, and never over somebody else's file.

Without replacing, `link` is the judge: it fails when the name is taken, under any race. A
replacement is a second name and a `rename` over the first, while a lock on the store keeps
other replacements and deletions out, so that a precondition holds when it is acted on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from forebay.errors import NameTaken, NotFound, PreconditionFailed, SyncFailed
from forebay.model import Conflict, FileInfo, Preconditions
from forebay.stores.base import Publication, Published
from forebay.stores.folders import Folders, sync

if TYPE_CHECKING:
    from forebay.stores.staging import StagedFile

_HINTS = 4096


def tag_of(status: os.stat_result) -> str:
    """A strong tag: another file has another inode, a changed one another time."""
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def info_of(name: str, status: os.stat_result) -> FileInfo:
    folder = stat.S_ISDIR(status.st_mode)
    return FileInfo(
        name=name,
        size=0 if folder else status.st_size,
        mtime_ns=status.st_mtime_ns,
        tag=tag_of(status),
        is_folder=folder,
    )


class Publisher:
    """Publishes into the folders of one store. Thread-safe, and safe across processes."""

    def __init__(
        self,
        folders: Folders,
        *,
        own_fd: int,
        uploads_fd: int,
        strict: bool,
        numbered: Callable[[str, int], str],
    ) -> None:
        self._folders = folders
        self._own_fd = own_fd
        self._uploads_fd = uploads_fd
        self._strict = strict
        self._numbered = numbered
        self._hints: OrderedDict[str, int] = OrderedDict()
        self._hints_lock = threading.Lock()

    def check(self, how: Publication) -> None:
        """Raises what `publish` would raise now, without touching anything."""
        folder, base = split(how.name)
        try:
            with self._folders.opened(folder) as folder_fd:
                there = lookup(folder_fd, base)
        except NotFound:
            there = None
        judge(how, there)

    def publish(self, staged: StagedFile, how: Publication) -> Published:
        """See `Staged.publish`. Raises OSError too."""
        folder, base = split(how.name)
        with self._folders.opened(folder, create=True) as folder_fd:
            if replaces(how):
                base, replaced = self._replace(staged, how, folder_fd, base)
                renamed = False
            else:
                final = self._link(staged, how, folder_fd, base)
                renamed, replaced, base = final != base, False, final
            if self._strict:
                self._sync_name(folder_fd, base)
            name = f"{folder}/{base}" if folder else base
            published = Published(info_of(name, os.fstat(staged.fd)), renamed, replaced)
        if staged.folder_fd != self._uploads_fd:
            self._drop_staging_name(staged)
        return published

    def _link(self, staged: StagedFile, how: Publication, folder_fd: int, base: str) -> str:
        for candidate in self._candidates(how, base):
            try:
                link(staged, candidate, folder_fd)
            except FileExistsError:
                if candidate == base and how.preconditions:
                    judge(how, lookup(folder_fd, base))
                continue
            if candidate != base:
                self._remember(how.name, candidate, base)
            return candidate
        # The only candidate was taken: tell which rule was broken.
        judge(how, lookup(folder_fd, base))
        raise NameTaken

    def _candidates(self, how: Publication, base: str) -> Iterator[str]:
        yield base
        if how.conflict is not Conflict.RENAME or how.preconditions.demands_absence:
            return
        with self._hints_lock:
            number = self._hints.get(how.name, 1)
        step = tried = 0
        while True:
            yield self._numbered(base, number)
            tried += 1
            # After a while in strides, so that the ten-thousandth "upload.bin" stays cheap.
            step = 1 if tried < 64 else step * 2
            number += step

    def _remember(self, name: str, final: str, base: str) -> None:
        """Keeps where the next free number of a much-used name may be."""
        with self._hints_lock:
            known = self._hints.get(name, 1)
            guess = known
            for number in range(known, known + 65):
                if self._numbered(base, number) == final:
                    guess = number + 1
                    break
            self._hints[name] = guess
            self._hints.move_to_end(name)
            if len(self._hints) > _HINTS:
                self._hints.popitem(last=False)

    def _replace(
        self, staged: StagedFile, how: Publication, folder_fd: int, base: str
    ) -> tuple[str, bool]:
        aside = f"tmp/{secrets.token_hex(16)}.new"
        with self.locked():
            there = lookup(folder_fd, base)
            judge(how, there)
            link(staged, aside, self._own_fd)
            try:
                os.rename(aside, base, src_dir_fd=self._own_fd, dst_dir_fd=folder_fd)
            except BaseException as error:
                with contextlib.suppress(OSError):
                    os.unlink(aside, dir_fd=self._own_fd)
                if isinstance(error, IsADirectoryError):
                    raise NameTaken("A folder of that name exists.") from error
                raise
        return base, there is not None

    def delete(self, name: str, preconditions: Preconditions) -> None:
        folder, base = split(name)
        with self._folders.opened(folder) as folder_fd, self.locked():
            there = lookup(folder_fd, base)
            if there is None or there.is_folder:
                raise NotFound
            if not preconditions.permit_write(there.tag, there.mtime_ns):
                raise PreconditionFailed
            os.unlink(base, dir_fd=folder_fd)
            if self._strict:
                sync(folder_fd)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One replacement or deletion at a time, in all threads and processes."""
        fd = os.open(
            "names.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self._own_fd
        )
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _sync_name(self, folder_fd: int, base: str) -> None:
        try:
            sync(folder_fd)
        except SyncFailed:
            # Nobody was told of this name yet, and it may not survive: take it back.
            with contextlib.suppress(OSError):
                os.unlink(base, dir_fd=folder_fd)
            raise

    def _drop_staging_name(self, staged: StagedFile) -> None:
        if staged.path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(staged.path, dir_fd=staged.folder_fd)
            staged.path = None


def split(name: str) -> tuple[str, str]:
    folder, _, base = name.rpartition("/")
    return folder, base


def replaces(how: Publication) -> bool:
    """If-Match asks for replacement of what is there, whatever the policy says."""
    if how.preconditions.demands_absence:
        return False
    return how.conflict is Conflict.REPLACE or how.preconditions.demands_presence


def judge(how: Publication, there: FileInfo | None) -> None:
    """Raises NameTaken or PreconditionFailed when `how` does not allow publication now."""
    tag, mtime_ns = (there.tag, there.mtime_ns) if there else (None, 0)
    if how.preconditions and not how.preconditions.permit_write(tag, mtime_ns):
        raise PreconditionFailed
    if there is None:
        return
    if there.is_folder and how.conflict is not Conflict.RENAME:
        raise NameTaken("A folder of that name exists.")
    if how.conflict in (Conflict.REFUSE, Conflict.AUTO) and not how.preconditions.demands_presence:
        raise NameTaken


def lookup(folder_fd: int, base: str) -> FileInfo | None:
    """What is called `base` there, links not followed."""
    try:
        return info_of(base, os.stat(base, dir_fd=folder_fd, follow_symlinks=False))
    except FileNotFoundError:
        return None


def link(staged: StagedFile, name: str, folder_fd: int) -> None:
    """Adds a name; FileExistsError when it is taken (never replaces)."""
    if staged.path is not None:
        os.link(
            staged.path,
            name,
            src_dir_fd=staged.folder_fd,
            dst_dir_fd=folder_fd,
            follow_symlinks=False,
        )
        return
    # With dst_dir_fd Python calls linkat with AT_SYMLINK_FOLLOW; without it, it would call
    # link(2), which would link the magic link itself and fail.
    os.link(f"/proc/self/fd/{staged.fd}", name, dst_dir_fd=folder_fd)
