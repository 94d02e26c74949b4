"""Giving an unpublished upload its final name: one conditional request, repeatable by anybody."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from forebay.errors import StorageError
from forebay.model import Conflict, FileInfo, Piece
from forebay.stores.base import Publication, Published
from forebay.stores.naming import judge, replaces, split
from objects.client import ask, attempts, lost, unavailable
from objects.service import NoAnswer, ServiceError

if TYPE_CHECKING:
    from objects.staged import StagedObject


class Assembly:
    """The publication of one upload, by one of its holders."""

    def __init__(self, staged: StagedObject) -> None:
        self._staged = staged
        self._store = staged.store
        self._service = staged.store.service
        self._unknown: dict[str, bool] = {}
        """Names whose request was not answered, and whether it would replace a file."""
        self._joined: tuple[str, str, list[tuple[int, str]]] | None = None
        """Name, multipart upload, parts: ready to be completed."""

    def publish(self, how: Publication) -> Published:
        published = self._publish(self._bound(how))
        renamed = published.file.name != how.name
        return dataclasses.replace(published, renamed=renamed)

    def _bound(self, how: Publication) -> Publication:
        """With the name that was fixed when the data was begun."""
        if self._staged.name is None:
            return how
        renames = how.conflict is Conflict.RENAME
        conflict = Conflict.REFUSE if renames else how.conflict
        return Publication(self._staged.name, conflict, how.preconditions)

    def _publish(self, how: Publication) -> Published:
        for pause in attempts():
            for name, replacing in self._unknown.items():
                mine = self._mine(name)
                if mine is not None:
                    return Published(mine, False, replacing)
            name, there = self._choose(how)
            if there is not None and there.identity == self._staged.upload_id:
                return Published(there, False, False)
            try:
                tag = self._finish(name, there)
            except NoAnswer:
                self._unknown[name] = there is not None
            except ServiceError as error:
                self._judge(name, error)
            else:
                self._joined = None
                found = self._mine(name)
                info = found or FileInfo(name, self._staged.offset, time.time_ns(), tag)
                return Published(info, False, there is not None)
            time.sleep(pause)
        raise unavailable()

    def _choose(self, how: Publication) -> tuple[str, FileInfo | None]:
        """The name, and the file there that is to be replaced. Raises what refuses publication."""
        self._store.check_folders(split(how.name)[0])
        there = self._store.look(how.name)
        if there is not None and there.identity == self._staged.upload_id:
            return how.name, there
        judge(how, there)
        if there is None or replaces(how):
            return how.name, there
        return self._store.free_name(how, taken_now=True), None

    def _mine(self, name: str) -> FileInfo | None:
        return self._store.published_from(self._staged.upload_id, name, "")

    def _judge(self, name: str, error: ServiceError) -> None:
        """Raises unless another attempt may do better."""
        if error.code == "PreconditionFailed":
            self._unknown.setdefault(name, False)  # perhaps it was our own request
        elif error.code in ("NoSuchUpload", "InvalidPart", "NoSuchKey"):
            mine = self._mine(name)
            if mine is None:
                raise lost(error)
            self._unknown.setdefault(name, False)
        elif error.code != "SlowDown":
            raise lost(error)

    def _finish(self, name: str, there: FileInfo | None) -> str:
        """Raises NoAnswer when it may be done, ServiceError when it is not."""
        staged = self._staged
        condition = {"if_match": there.tag} if there else {"if_none_match": True}
        pieces = staged.pieces()
        metadata = {"forebay": staged.upload_id}
        if not staged.place and staged.offset <= self._store.part_size:
            content = self._store.fetch(staged.folder, pieces)
            return self._service.put(name, content, metadata, **condition)
        if self._joined is None or self._joined[0] != name:
            self.drop()
            self._joined = (name, *(self._parts_in_place(pieces) or self._join(name, pieces)))
        _, upload_id, parts = self._joined
        return self._service.complete(name, upload_id, parts, **condition)

    def _parts_in_place(self, pieces: Sequence[Piece]) -> tuple[str, list[tuple[int, str]]] | None:
        """Those that went to the final name from the start, and the rest as the last one."""
        staged = self._staged
        if not staged.place:
            return None
        assert staged.name is not None
        parts = [(piece.number, piece.ref) for piece in pieces if piece.kind == "part"]
        rest = [piece for piece in pieces if piece.kind != "part"]
        if rest:
            content, number = self._store.fetch(staged.folder, rest), staged.take_number()
            tag = ask(self._service.upload_part, staged.name, staged.place, number, content)
            parts.append((number, tag))
        return staged.place, parts

    def _join(self, name: str, pieces: Sequence[Piece]) -> tuple[str, list[tuple[int, str]]]:
        """Copies the pieces to a multipart upload; small ones together with their neighbours."""
        staged, least = self._staged, self._service.least_part
        place = self._store.begin_parts(name, staged.upload_id, staged.folder)
        self._joined = (name, place, [])  # so that it is dropped when this fails
        parts: list[tuple[int, str]] = []
        small = b""
        for index, piece in enumerate(pieces):
            number = len(parts) + 1
            if piece.kind == "object" and piece.size >= least and not small:
                key = staged.folder + piece.ref
                tag = ask(self._service.copy_part, name, place, number, key, 0, piece.size)
                parts.append((number, tag))
                continue
            small += self._store.fetch(staged.folder, [piece])
            if len(small) >= least or index == len(pieces) - 1:
                parts.append((number, ask(self._service.upload_part, name, place, number, small)))
                small = b""
        return place, parts

    def drop(self) -> None:
        """Aborts what was joined; no error when that is not possible, or it was completed."""
        if self._joined is not None and self._joined[1] != self._staged.place:
            name, place, _ = self._joined
            with contextlib.suppress(ServiceError, StorageError):
                ask(self._service.abort, name, place)
        self._joined = None
