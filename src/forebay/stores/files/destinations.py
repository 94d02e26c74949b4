"""Whether files can be published into a folder of a store; asked before anybody sends one."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets

from forebay.errors import NotAFolder, NotFound, from_os_error
from forebay.stores.files.publish import link
from forebay.stores.files.store import FileStore


def check_folder(store: FileStore, folder: str) -> None:
    """Publishes an empty file there and removes it again; a folder that is missing is fine.

    In a thread. Raises NotAFolder for what is no folder, or is on another filesystem or mount,
    StorageDenied or another StorageError.
    """
    try:
        with store.folders.opened(folder) as folder_fd:
            if folder:
                _try_out(store, folder, folder_fd)
    except NotFound:
        return


def _try_out(store: FileStore, folder: str, folder_fd: int) -> None:
    staged = store.stage()
    name = f".{secrets.token_hex(8)}.probe"
    try:
        link(staged, name, folder_fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder_fd)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise NotAFolder(
                f"The folder {folder!r} is another mount than {store.root!r}; files cannot be "
                "published there."
            ) from error
        raise from_os_error(error) from error
    finally:
        staged.discard()
