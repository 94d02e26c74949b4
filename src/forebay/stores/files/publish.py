"""Giving staged data its final name: atomic, whole, and never over another file.

Without replacing, `link` is the judge: it fails when the name is taken, under any race. A
replacement is a second name and a `rename` over the first, while a lock on the store holds off
other replacements and deletions, so that a precondition holds when it is acted on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from typing import Protocol

from forebay.conditions import Preconditions
from forebay.errors import (
    NameTaken,
    NotAFolder,
    NotFound,
    PreconditionFailed,
    StorageError,
    SyncFailed,
)
from forebay.model import Conflict, FileInfo
from forebay.stores.base import Publication, Published
from forebay.stores.files.flock import NamesLock
from forebay.stores.files.folders import Folders, sync
from forebay.stores.files.syscalls import born
from forebay.stores.naming import Numbers, judge, on_disk, replaces, split


class OpenFile(Protocol):
    """An open file that is to be published."""

    fd: int
    path: str | None
    """Its name in `folder_fd`; None where it has none."""
    folder_fd: int


def tag_of(status: os.stat_result) -> str:
    """A strong tag: another file has another inode, a changed one another time."""
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def identity_of(folder_fd: int, name: str = "") -> str:
    """See `FileInfo.identity`. Of an open file, or of `name` in an open folder. Raises OSError."""
    raw = on_disk(name)
    status = os.stat(raw, dir_fd=folder_fd, follow_symlinks=False) if raw else os.fstat(folder_fd)
    return f"{status.st_ino:x}-{born(folder_fd, raw)}"


def info_of(name: str, status: os.stat_result, attribute: bytes = b"") -> FileInfo:
    """What is neither file nor folder counts as a folder: it stands in the way like one."""
    folder = not stat.S_ISREG(status.st_mode)
    return FileInfo(
        name=name,
        size=0 if folder else status.st_size,
        mtime_ns=status.st_mtime_ns,
        tag=tag_of(status),
        is_folder=folder,
        attribute=attribute,
    )


_ATTEMPTS = 10
"""How often a folder is made again that others removed, empty, just before a file came into it."""


class Publisher:
    """Publishes into the folders of one store. Thread-safe, and safe across processes."""

    def __init__(
        self,
        folders: Folders,
        *,
        own: Callable[[], int],
        strict: bool,
        numbered: Callable[[str, int], str],
    ) -> None:
        self._folders = folders
        self._own = own
        self._lock = NamesLock(own, folders.root_fd)
        self._strict = strict
        self._numbers = Numbers(numbered)

    def check(self, how: Publication) -> None:
        """Raises what `publish` would raise now, without touching anything."""
        folder, base = split(how.name)
        try:
            with self._folders.opened(folder) as folder_fd:
                there = lookup(folder_fd, base)
        except NotFound:
            there = None
        judge(how, there)

    def publish(self, staged: OpenFile, how: Publication) -> Published:
        """See `Staged.publish`. Raises OSError too."""
        folder, base = split(how.name)
        if how.preconditions:
            self.check(how)  # before folders are made for what will be refused
        # Before it has a name: what fails from then on would refuse a file that is there.
        info = info_of(base, os.fstat(staged.fd))
        info = dataclasses.replace(info, identity=identity_of(staged.fd))
        try:
            final, replaced = self._place(staged, how, folder, base)
        except OSError as error:
            if error.errno == errno.EXDEV:  # not seen before: a bind mount has the same device
                raise NotAFolder(
                    f"The folder {folder!r} is another mount; files cannot be published there."
                ) from error
            raise
        name = f"{folder}/{final}" if folder else final
        return Published(dataclasses.replace(info, name=name), final != base, replaced)

    def _place(
        self, staged: OpenFile, how: Publication, folder: str, base: str
    ) -> tuple[str, bool]:
        """Its name in the folder, and whether it replaced a file. What fails leaves no folder."""
        attempts = _ATTEMPTS if folder else 1
        while True:
            attempts -= 1
            try:
                with self._folders.opened(folder, create=True) as folder_fd:
                    if replaces(how):
                        return base, self._replace(staged, how, folder_fd, base)
                    return self._link(staged, how, folder_fd, base), False
            except (FileNotFoundError, NotFound):  # the folder was emptied and went meanwhile
                if not attempts:
                    raise
            except BaseException:
                self._folders.prune(folder)
                raise

    def _link(self, staged: OpenFile, how: Publication, folder_fd: int, base: str) -> str:
        final = self._link_first_free(staged, how, folder_fd, base)
        if self._strict:
            try:
                sync(folder_fd)
            except SyncFailed:
                # Not acknowledged yet, and it may not survive: take it back.
                with contextlib.suppress(OSError, StorageError), self.locked():
                    self._unlink_own(staged, folder_fd, final)
                raise
        return final

    def _link_first_free(
        self, staged: OpenFile, how: Publication, folder_fd: int, base: str
    ) -> str:
        for number, candidate in self._candidates(how, folder_fd, base):
            try:
                link(staged, candidate, folder_fd)
            except FileExistsError:
                if not number:  # every condition that comes here holds while there is no file
                    judge(how, lookup(folder_fd, base))
                continue
            if number:
                self._numbers.remember(how.name, number)
            return candidate
        raise PreconditionFailed if how.preconditions.demands_absence else NameTaken

    def free_name(self, how: Publication) -> str:
        """See `Store.free_name`."""
        folder, base = split(how.name)
        try:
            with self._folders.opened(folder) as folder_fd:
                for _, candidate in self._candidates(how, folder_fd, base):
                    if lookup(folder_fd, candidate) is None:
                        return f"{folder}/{candidate}" if folder else candidate
        except NotFound:
            pass  # no folder, so every name in it is free
        return how.name

    def _candidates(self, how: Publication, folder_fd: int, base: str) -> Iterator[tuple[int, str]]:
        yield 0, base
        if how.conflict is Conflict.RENAME and not how.preconditions.demands_absence:
            yield from self._numbers.candidates(
                how.name, lambda name: lookup(folder_fd, name) is not None
            )

    def _replace(self, staged: OpenFile, how: Publication, folder_fd: int, base: str) -> bool:
        """Whether something was replaced.

        The lock is held to the end: the sweep takes it too, so that it never sees the names
        aside of a replacement under way, and a replacement taken back is nobody else's.
        """
        aside = f"tmp/{secrets.token_hex(16)}"
        new, old = f"{aside}.new", f"{aside}.old"
        own_fd = self._own()
        with self.locked():
            there = lookup(folder_fd, base)
            judge(how, there)
            try:
                link(staged, new, own_fd)
                saved = (
                    self._strict and there is not None and self._link_aside(folder_fd, base, old)
                )
                os.rename(os.fsencode(new), on_disk(base), src_dir_fd=own_fd, dst_dir_fd=folder_fd)
                if self._strict:
                    self._sync_replaced(staged, folder_fd, base, old if saved else None, there)
            except IsADirectoryError as error:
                raise NameTaken("A folder of that name exists.") from error
            finally:
                self._drop_aside(new, *([old] if self._strict else []))
        return there is not None

    def _link_aside(self, folder_fd: int, base: str, old: str) -> bool:
        """Another name for what will be replaced, should the sync fail."""
        try:
            os.link(
                on_disk(base),
                os.fsencode(old),
                src_dir_fd=folder_fd,
                dst_dir_fd=self._own(),
                follow_symlinks=False,
            )
        except OSError:  # not allowed for a file of another owner (fs.protected_hardlinks)
            return False
        return True

    def _sync_replaced(
        self,
        staged: OpenFile,
        folder_fd: int,
        base: str,
        old: str | None,
        there: FileInfo | None,
    ) -> None:
        try:
            sync(folder_fd)
        except SyncFailed:
            with contextlib.suppress(OSError):
                if old is not None:
                    os.rename(
                        os.fsencode(old),
                        on_disk(base),
                        src_dir_fd=self._own(),
                        dst_dir_fd=folder_fd,
                    )
                elif there is None:
                    self._unlink_own(staged, folder_fd, base)
            raise

    def _drop_aside(self, *names: str) -> None:
        for name in names:
            with contextlib.suppress(OSError):  # what stays is swept
                os.unlink(name, dir_fd=self._own())

    def _unlink_own(self, staged: OpenFile, folder_fd: int, base: str) -> None:
        """Under the lock, so that it cannot be replaced meanwhile."""
        raw = on_disk(base)
        there = os.stat(raw, dir_fd=folder_fd, follow_symlinks=False)
        if os.path.samestat(there, os.fstat(staged.fd)):
            os.unlink(raw, dir_fd=folder_fd)

    def delete(self, name: str, preconditions: Preconditions, identity: str = "") -> None:
        """See `Store.delete`. Raises OSError too."""
        folder, base = split(name)
        with self._folders.opened(folder) as folder_fd, self.locked():
            there = lookup(folder_fd, base)
            if there is None or there.is_folder:
                raise NotFound
            if not preconditions.permit_write(there.tag, there.mtime_ns):
                raise PreconditionFailed
            if identity and identity_of(folder_fd, base) != identity:
                raise PreconditionFailed
            os.unlink(on_disk(base), dir_fd=folder_fd)
            if self._strict:
                sync(folder_fd)
        self._folders.prune(folder)

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """One replacement, deletion or sweep at a time, in all threads and processes.

        Raises StorageBusy.
        """
        return self._lock.held()


def lookup(folder_fd: int, base: str) -> FileInfo | None:
    """What is called `base` there, links not followed; its size is that on the disk."""
    try:
        return info_of(base, os.stat(on_disk(base), dir_fd=folder_fd, follow_symlinks=False))
    except FileNotFoundError:
        return None


def link(staged: OpenFile, name: str, folder_fd: int) -> None:
    """Adds a name; FileExistsError when it is taken (never replaces)."""
    if staged.path is not None:
        os.link(
            os.fsencode(staged.path),
            on_disk(name),
            src_dir_fd=staged.folder_fd,
            dst_dir_fd=folder_fd,
            follow_symlinks=False,
        )
        return
    link_unnamed(staged.fd, name, folder_fd)


def link_unnamed(fd: int, name: str, folder_fd: int) -> None:
    """Gives an O_TMPFILE its name. Raises OSError."""
    # With dst_dir_fd Python calls linkat with AT_SYMLINK_FOLLOW; without it, it would call
    # link(2), which would link the magic link itself and fail.
    os.link(b"/proc/self/fd/%d" % fd, on_disk(name), dst_dir_fd=folder_fd, follow_symlinks=True)
