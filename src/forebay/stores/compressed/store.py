"""A store on top of another: it compresses files at rest, and decodes them when they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from forebay.errors import ConfigError, NotAFolder, NotFound, StorageError
from forebay.model import FileInfo, Lease, Piece, UploadRecord
from forebay.stores.base import AttributedStore, Publication, Reader, Staged
from forebay.stores.compressed.mark import described, mark_of
from forebay.stores.compressed.reading import DecodedReader
from forebay.stores.compressed.seekable import Unpacker, zstd
from forebay.stores.compressed.staged import CompressedStaged


class CompressedStore:
    """See `forebay.stores.base.Store`; it offers what `store` does.

    Args:
        store: where everything is.
        choose: whether a file of that name is to be compressed at rest; None: none is from now on.

    Raises ConfigError when files cannot be compressed there.
    """

    def __init__(self, store: AttributedStore, choose: Callable[[str], bool] | None = None) -> None:
        self._store = store
        self._choose = choose
        self._unpacker = Unpacker()
        if choose is not None:
            _check_support(store)
        self.durability = store.durability
        self.binds_names = store.binds_names
        self.identity = store.identity
        self.delete = store.delete
        self.free_name = store.free_name
        self.check_target = store.check_target
        self.open_staged = store.open_staged
        self.remains = store.remains
        self.remove = store.remove
        self.sweep_temporaries = store.sweep_temporaries
        self.space = store.space
        self.probe = store.probe
        self.close = store.close

    @property
    def min_free(self) -> int:
        return self._store.min_free

    @min_free.setter
    def min_free(self, min_free: int) -> None:
        self._store.min_free = min_free

    # --- staging ---------------------------------------------------------------------------------

    def stage(self, how: Publication | None = None, size: int | None = None) -> Staged:
        return self._compressing(self._store.stage(how, size), resumable=False)

    def begin(self, record: UploadRecord, lease: Lease | None, *, sealable: bool) -> Staged:
        return self._compressing(self._store.begin(record, lease, sealable=True))

    def resume(self, record: UploadRecord, pieces: Sequence[Piece], lease: Lease | None) -> Staged:
        return self._compressing(self._store.resume(record, pieces, lease))

    def claim(self, upload_id: str) -> Staged:
        return self._compressing(self._store.claim(upload_id))

    def _compressing(self, staged: Staged, *, resumable: bool = True) -> Staged:
        if self._choose is None:
            return staged
        return CompressedStaged(self._store, staged, self._choose, resumable=resumable)

    def published_from(self, upload_id: str, name: str, identity: str) -> FileInfo | None:
        found = self._store.published_from(upload_id, name, identity)
        if found is None and not identity:
            found = self._marked_by_0_1_0(upload_id, name)
        return None if found is None else described(found)

    def _marked_by_0_1_0(self, upload_id: str, name: str) -> FileInfo | None:
        """Forebay 0.1.0 recorded no identity, but its marks have the id of the upload."""
        try:
            mark = mark_of(self._store.stat(name))
            if mark is None or mark.origin != upload_id:
                return None
            identity = self._store.identity(name)
        except (NotFound, NotAFolder):
            return None
        return self._store.published_from(upload_id, name, identity)

    # --- published files -------------------------------------------------------------------------

    def stat(self, name: str) -> FileInfo:
        return described(self._store.stat(name))

    def open(self, name: str) -> Reader:
        reader = self._store.open(name)
        info = described(reader.info)
        if info.stored_size is None:
            return reader
        return DecodedReader(reader, info, self._unpacker)

    def list_folder(
        self, name: str, *, after: str = "", limit: int = 1000, since: float | None = None
    ) -> list[FileInfo]:
        found = self._store.list_folder(name, after=after, limit=limit, since=since)
        return [described(info) if info.attribute else info for info in found]


def _check_support(store: AttributedStore) -> None:
    """Proves that files can be marked there. Raises ConfigError."""
    zstd()
    try:
        supported = store.holds_attributes()
    except StorageError:
        return  # nothing can be written at all now, which is reported elsewhere
    if not supported:
        raise ConfigError(
            "The filesystem keeps no extended attributes, which tell files that are compressed "
            "from others. Use another one, or --compress-at-rest none."
        )
