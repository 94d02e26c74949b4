"""A store on an object service: for tests.

Two layouts. Without `direct`, parts are objects of their own and are joined at publication, so that
the bytes can be read before it. With `direct`, parts go to a multipart upload on the final name,
which is therefore bound from the beginning.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from forebay.conditions import NO_PRECONDITIONS, Preconditions
from forebay.errors import DiskFull, NotAFolder, NotFound, PreconditionFailed, StorageFailed
from forebay.model import Conflict, Durability, FileInfo, Lease, Piece, UploadRecord
from forebay.stores.base import Publication, Reader, Space, Staged
from forebay.stores.naming import Numbers, check_path, judge, split
from objects.client import ask, attempts, delete_quietly, lost
from objects.reader import ObjectReader, Segment, segments_of
from objects.service import KiB, NoAnswer, Object, ObjectService, ServiceError
from objects.staged import StagedObject

OWN = ".forebay/"
_UPLOADS = OWN + "u/"
_SINGLE = OWN + "t/"
_MARK = "parts-"
"""Begins the names of objects that tell of a multipart upload: its name and id."""


class ObjectStore:
    """See `Store`, `Resumable`, `Sweepable` and `Roomy` in `forebay.stores.base`.

    Args:
        direct: the second layout.
        assume_sealable: of data that has no part yet when it is resumed, which nothing tells.
        part_size: bytes of a full part.
        inline: bytes of an upload that the state may hold.
        spool: bytes of an upload that are waiting to be stored, at most.
        orphan_age: seconds after which what belongs to nobody is swept.
    """

    durability = Durability.STRICT

    def __init__(
        self,
        service: ObjectService,
        *,
        numbered: Callable[[str, int], str],
        direct: bool = False,
        assume_sealable: bool = True,
        part_size: int | None = None,
        inline: int = 8 * KiB,
        spool: int | None = None,
        min_free: int = 0,
        orphan_age: float = 3600.0,
    ) -> None:
        self.service = service
        self.binds_names = direct
        self._assume_sealable = assume_sealable
        self.part_size = part_size or 2 * service.least_part
        self.inline = inline
        self.spool = spool or 5 * self.part_size
        self.min_free = min_free
        self.orphan_age = orphan_age
        self.pool = ThreadPoolExecutor(4, "shipping")
        self._numbers = Numbers(numbered)

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)

    # --- staging ---

    def stage(self, how: Publication | None = None, size: int | None = None) -> Staged:
        upload_id = secrets.token_hex(8)
        name = None
        if self.binds_names:
            assert how is not None, "a store that binds names is told the name first"
            name = self.free_name(how)
        return StagedObject(self, upload_id, f"{_SINGLE}{upload_id}/", name=name, single=True)

    def begin(self, record: UploadRecord, lease: Lease | None, *, sealable: bool) -> Staged:
        return self._staged(record, (), lease, sealable=sealable)

    def resume(self, record: UploadRecord, pieces: Sequence[Piece], lease: Lease | None) -> Staged:
        self._check_pieces(record, pieces)
        sealable = not record.place and self._assume_sealable
        return self._staged(record, pieces, lease, sealable=sealable)

    def _staged(
        self, record: UploadRecord, pieces: Sequence[Piece], lease: Lease | None, *, sealable: bool
    ) -> Staged:
        name, place = None, ""
        if self.binds_names and not sealable:
            place, _, name = record.place.partition(" ")
            name = name or record.final_name or record.name
        folder = _folder(record.id)
        return StagedObject(self, record.id, folder, lease, pieces, name=name, place=place)

    def open_staged(self, record: UploadRecord, pieces: Sequence[Piece]) -> Reader:
        self._check_pieces(record, pieces)
        info = FileInfo("", record.offset, 0, "")
        return ObjectReader(self.service, info, segments_of(_folder(record.id), pieces))

    def _check_pieces(self, record: UploadRecord, pieces: Sequence[Piece]) -> None:
        """Raises StorageFailed when they are not the bytes up to `offset`, NotFound when the
        service has forgotten them.
        """
        end = 0
        for piece in pieces:
            if piece.start != end:
                break
            end += piece.size
        if end != record.offset:
            raise StorageFailed(
                f"The upload has lost data: {end} of {record.offset} bytes are there."
            )
        wanted = {_folder(record.id) + piece.ref for piece in pieces if piece.kind == "object"}
        if wanted and not wanted <= set(self._list(_folder(record.id))):
            raise NotFound("The store has forgotten this upload.")

    def published_from(self, upload_id: str, name: str, identity: str) -> FileInfo | None:
        check_path(name)
        found = self._head(name)
        if found is None or found.metadata.get("forebay") != (identity or upload_id):
            return None
        return _info(name, found)

    # --- sweeping ---

    def remains(self) -> Iterator[str]:
        return iter(sorted(self._old_folders(_UPLOADS)))

    def remove(self, upload_id: str) -> None:
        if upload_id and "/" not in upload_id:
            self.remove_folder(_folder(upload_id))

    def sweep_temporaries(self) -> int:
        folders = self._old_folders(_SINGLE)
        for upload_id in folders:
            self.remove_folder(f"{_SINGLE}{upload_id}/")
        return len(folders) + self._abort_unmarked()

    def _old_folders(self, prefix: str) -> set[str]:
        """Names of folders in which nothing was changed for long."""
        newest: dict[str, int] = {}
        for key in self._list(prefix):
            folder = key[len(prefix) :].partition("/")[0]
            found = self._head(key)
            if found is not None:
                newest[folder] = max(found.modified_ns, newest.get(folder, 0))
        return {folder for folder, last in newest.items() if self._is_old(last)}

    def _is_old(self, moment_ns: int) -> bool:
        return moment_ns <= time.time_ns() - int(self.orphan_age * 10**9)

    def _abort_unmarked(self) -> int:
        """Ends multipart uploads that were begun by requests which did not live to say so."""
        known = {self._place_of(key)[1] for key in self._list(OWN) if f"/{_MARK}" in key}
        count = 0
        for name, place, started_ns in ask(self.service.list_uploads):
            if place not in known and self._is_old(started_ns):
                self._abort(name, place)
                count += 1
        return count

    def remove_folder(self, folder: str) -> None:
        """Removes all that an upload has at the service."""
        keys = self._list(folder)
        for key in keys:
            if key[len(folder) :].startswith(_MARK):
                self._abort(*self._place_of(key))
        for key in keys:
            ask(self.service.delete, key)

    def _place_of(self, key: str) -> tuple[str, str]:
        try:
            content = ask(self.service.get, key, 0, 4096).decode()
        except ServiceError:
            return "", ""
        place, _, name = content.partition(" ")
        return name, place

    def _abort(self, name: str, place: str) -> None:
        with contextlib.suppress(ServiceError):  # NoSuchUpload
            ask(self.service.abort, name, place)

    def begin_parts(self, name: str, upload_id: str, folder: str) -> str:
        """Begins a multipart upload on a final name and leaves a note of it; its id."""
        place: str = ask(self.service.create_upload, name, {"forebay": upload_id})
        ask(self.service.put, f"{folder}{_MARK}{place}", f"{place} {name}".encode())
        return place

    def fetch(self, folder: str, pieces: Sequence[Piece]) -> bytes:
        """All bytes of pieces that are no parts."""
        content = b""
        for piece in pieces:
            if piece.kind == "inline":
                content += piece.data
                continue
            try:
                content += ask(self.service.get, folder + piece.ref, 0, piece.size)
            except ServiceError as error:
                raise lost(error) from error
        return content

    # --- space ---

    def space(self) -> Space:
        return Space(self.service.capacity - self.service.used, self.service.capacity)

    def check_room(self, size: int) -> None:
        free = self.space().free
        if size + self.min_free > free:
            raise DiskFull(free=free)

    def probe(self) -> None:
        key = f"{OWN}probe/{secrets.token_hex(4)}"
        ask(self.service.put, key, b"")
        delete_quietly(self.service, [key])

    # --- published files ---

    def look(self, name: str) -> FileInfo | None:
        """The file or folder of that name."""
        found = self._head(name)
        if found is not None:
            return _info(name, found)
        if self._list(f"{name}/", limit=1):
            return FileInfo(name, 0, 0, "", is_folder=True)
        return None

    def check_folders(self, folder: str) -> None:
        """Raises NotAFolder."""
        parts = folder.split("/") if folder else []
        for depth in range(1, len(parts) + 1):
            if self._head("/".join(parts[:depth])) is not None:
                raise NotAFolder(f"{parts[depth - 1]!r} is not a folder and cannot hold files.")

    def check_target(self, how: Publication) -> None:
        self.check_folders(split(how.name)[0])
        judge(how, self.look(how.name))

    def free_name(self, how: Publication, *, taken_now: bool = False) -> str:
        folder, _ = split(how.name)
        if how.conflict is not Conflict.RENAME or self.look(how.name) is None:
            return how.name
        prefix = f"{folder}/" if folder else ""

        def taken(base: str) -> bool:
            return self.look(prefix + base) is not None

        for number, base in self._numbers.candidates(how.name, taken):
            if not taken(base):
                if taken_now:
                    self._numbers.remember(how.name, number)
                return prefix + base
        raise AssertionError("candidates do not end")

    def stat(self, name: str) -> FileInfo:
        if not name:
            return FileInfo("", 0, 0, "", is_folder=True)
        self.check_folders(split(name)[0])
        found = self.look(name)
        if found is None:
            raise NotFound
        return found

    def open(self, name: str) -> Reader:
        self.check_folders(split(name)[0])
        found = self._head(name)
        if found is None:
            raise NotFound
        info = _info(name, found)
        segments = [Segment(0, info.size, name, info.tag)] if info.size else []
        return ObjectReader(self.service, info, segments)

    def identity(self, name: str) -> str:
        found = self._head(name)
        if found is None:
            raise NotFound
        return _info(name, found).identity

    def delete(
        self,
        name: str,
        preconditions: Preconditions = NO_PRECONDITIONS,
        *,
        identity: str = "",
    ) -> None:
        self.check_folders(split(name)[0])
        tried = False
        for pause in attempts():
            found = self._head(name)
            if found is None and tried:
                return  # by a request that was not answered
            if found is None:
                raise NotFound
            info = _info(name, found)
            if not preconditions.permit_write(info.tag, info.mtime_ns):
                raise PreconditionFailed
            if identity and identity != info.identity:
                raise PreconditionFailed
            try:
                self.service.delete(name, if_match=info.tag)
                return
            except NoAnswer:
                tried = True
            except ServiceError as error:
                if error.code not in ("SlowDown", "PreconditionFailed"):
                    raise lost(error) from error
            time.sleep(pause)
        raise StorageFailed("The file could not be removed.")

    def list_folder(
        self, name: str, *, after: str = "", limit: int = 1000, since: float | None = None
    ) -> list[FileInfo]:
        if name:
            check_path(name)
            self.check_folders(name)
        prefix = f"{name}/" if name else ""
        keys = self._list(prefix)
        if name and not keys:
            raise NotFound
        names = sorted({key[len(prefix) :].partition("/")[0] for key in keys})
        found = []
        for base in names:
            if base <= after or base.startswith("."):
                continue
            if len(found) >= limit:
                break
            head = self._head(prefix + base)
            found.append(_info(base, head) if head else FileInfo(base, 0, 0, "", is_folder=True))
        return found

    # --- requests ---

    def _head(self, key: str) -> Object | None:
        try:
            found = ask(self.service.head, key)
        except ServiceError:
            return None
        assert isinstance(found, Object)
        return found

    def _list(self, prefix: str, *, limit: int | None = None) -> list[str]:
        found: list[str] = []
        while page := ask(self.service.list, prefix, after=found[-1] if found else ""):
            found += page
            if limit is not None and len(found) >= limit:
                break
        return found


def _folder(upload_id: str) -> str:
    return f"{_UPLOADS}{upload_id}/"


def _info(name: str, found: Object) -> FileInfo:
    identity = found.metadata.get("forebay", found.etag)
    return FileInfo(name, len(found.content), found.modified_ns, found.etag, identity=identity)
