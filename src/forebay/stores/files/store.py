"""Files on a local filesystem: `ROOT/NAME`, and the store's own folder `ROOT/.forebay/`.

Bodies of single requests are staged without any name where the filesystem can do that, so
that a crash leaves nothing behind (invariant 5).
"""

from __future__ import annotations

import os
import secrets

from forebay.errors import NotFound, StorageDenied, from_os_error
from forebay.stores.files.folders import close_quietly
from forebay.stores.files.published import PublishedFiles
from forebay.stores.files.staging import StagingFolders


class FileStore(StagingFolders, PublishedFiles):
    """See `forebay.stores.base.Store` and all that it may offer.

    Args:
        root: folder that holds the published files; made when missing.
        durability: what commits and publications survive.
        min_free: bytes that must stay free on the filesystem; may be assigned at any time.
        file_mode, folder_mode: permission bits of what is published; the umask is not applied.
        numbered: makes `name (n).ext` of a name and a number.
        unnamed: False forces named temporaries, as on a filesystem without O_TMPFILE.
        attribute: the extended attribute that `FileInfo.attribute` is; "": there is none.

    What is there is served also when nothing can be written: a full disk, a missing permission.
    Raises StorageError when the root cannot be opened.
    """

    # --- notes of this machine -------------------------------------------------------------------

    def read_note(self, name: str) -> bytes:
        """At most 64 KiB. Raises NotFound, StorageError."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self.own_fd)
            with os.fdopen(fd, "rb") as file:
                return file.read(1 << 16)
        except FileNotFoundError as error:
            raise NotFound from error
        except OSError as error:
            raise from_os_error(error) from error

    def write_note(self, name: str, data: bytes) -> None:
        """Replaces it as a whole; not synced. Raises StorageError."""
        temporary, flags = f"{name}.{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        folder = self.own_fd
        try:
            fd = os.open(temporary, flags | os.O_CLOEXEC, 0o600, dir_fd=folder)
            with os.fdopen(fd, "wb") as file:
                file.write(data)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            raise from_os_error(error) from error

    def probe(self) -> None:
        self.refresh()
        staged = self.stage()
        try:
            staged.write(memoryview(b"probe"), 0)
        finally:
            staged.discard()
        mode = os.W_OK | os.X_OK
        try:
            self._probe_uploads()
            # Asked and not tried: programs that watch the folder would see a file come and go.
            may_write = os.access(".", mode, dir_fd=self.root_fd, effective_ids=True)
        except OSError as error:
            raise from_os_error(error) from error
        if not may_write:
            raise StorageDenied(f"The server may not write to {self.root}.")

    def _probe_uploads(self) -> None:
        name = f"{secrets.token_hex(8)}.probe"  # no id, so a sweep does not look at it
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=self.uploads_fd)
        try:
            os.unlink(name, dir_fd=self.uploads_fd)
        finally:
            close_quietly(fd)
