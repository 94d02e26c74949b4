"""Upload state in the memory of this process: for tests, and where no state is stored."""

from __future__ import annotations

import bisect
import dataclasses
import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from forebay.errors import AlreadyExists, NotFound, UploadExists
from forebay.model import UploadRecord, UploadState
from forebay.sessions.records import (
    advance_refusal,
    check_changes,
    check_version,
    is_unnotified,
    not_open,
)


class MemorySessions:
    """The port `Sessions` on a dict. Nothing outlives the process, and no other one sees it."""

    def __init__(self) -> None:
        self._open = False
        self._records: dict[str, UploadRecord] = {}
        # Sorted, so that a sweep or a listing costs what it returns, and not all uploads.
        self._ids: list[str] = []
        self._expiries: list[tuple[float, str]] = []
        self._bound: dict[str, set[str]] = {}
        self._notifiable: set[str] = set()

    async def open(self) -> None:
        self._open = True

    async def close(self) -> None:
        self._open = False

    def close_now(self) -> None:
        self._open = False

    async def create(self, record: UploadRecord) -> None:
        if record.id in self._all():
            raise AlreadyExists
        self._check_binding(record)
        self._put(record)

    async def load(self, upload_id: str) -> UploadRecord:
        record = self._all().get(upload_id)
        if record is None:
            raise NotFound("There is no such upload.")
        return record

    async def load_bound(self, binding: str) -> UploadRecord:
        records = self._all()
        found = [records[upload_id] for upload_id in self._bound.get(binding, ())]
        if not found:
            raise NotFound("There is no such upload.")
        return max(found, key=lambda r: (r.is_unfinished, r.created_at, r.id))

    async def advance(self, upload_id: str, offset: int, expires_at: float | None) -> UploadRecord:
        record = await self.load(upload_id)
        refusal = advance_refusal(record.state, record.offset, offset)
        if refusal is not None:
            raise refusal
        return self._change(record, {"offset": offset, "expires_at": expires_at})

    async def update(
        self, upload_id: str, *, version: int | None = None, **changes: Any
    ) -> UploadRecord:
        check_changes(changes)
        record = await self.load(upload_id)
        check_version(record, version)
        return self._change(record, changes)

    async def delete(self, upload_id: str) -> None:
        if upload_id in self._all():
            self._forget(upload_id)

    async def expired(self, now: float, limit: int) -> Sequence[UploadRecord]:
        records = self._all()
        due = bisect.bisect_right(self._expiries, now, key=lambda entry: entry[0])
        found = (records[key] for _, key in self._expiries[:due])
        wanted = (record for record in found if not is_unnotified(record))
        return list(itertools.islice(wanted, max(limit, 0)))

    async def unnotified(self, before: float, limit: int) -> Sequence[UploadRecord]:
        records = self._all()
        due = [
            (record.notify_at, record.id)
            for record in map(records.__getitem__, self._notifiable)
            if is_unnotified(record) and record.notify_at is not None
        ]
        soonest = heapq.nsmallest(max(limit, 0), [entry for entry in due if entry[0] <= before])
        return [records[key] for _, key in soonest]

    async def page(
        self, *, state: UploadState | None = None, after: str = "", limit: int = 1000
    ) -> Sequence[UploadRecord]:
        records = self._all()
        found: list[UploadRecord] = []
        for position in range(bisect.bisect_right(self._ids, after), len(self._ids)):
            if len(found) >= limit:
                break
            record = records[self._ids[position]]
            if state is None or record.state is state:
                found.append(record)
        return found

    async def load_many(self, ids: Sequence[str]) -> Sequence[UploadRecord]:
        records = self._all()
        return [records[upload_id] for upload_id in ids if upload_id in records]

    async def count(self) -> int:
        return len(self._all())

    async def in_place(self) -> None:
        """Always passes."""

    async def probe(self) -> None:
        """Always passes."""

    async def ask_release(self, upload_id: str) -> None:
        """Does nothing: there is no other process."""

    def on_release_asked(self, callback: Callable[[str], None]) -> None:
        """Does nothing: no other process asks."""

    def _all(self) -> dict[str, UploadRecord]:
        if not self._open:
            raise not_open()
        return self._records

    def _change(self, record: UploadRecord, changes: dict[str, Any]) -> UploadRecord:
        changed = dataclasses.replace(record, **changes, version=record.version + 1)
        self._check_binding(changed)
        same = (changed.expires_at, changed.binding) == (record.expires_at, record.binding)
        if same:
            self._records[record.id] = changed
            self._note_notifiable(changed)
        else:
            self._forget(record.id)
            self._put(changed)
        return changed

    def _check_binding(self, record: UploadRecord) -> None:
        if record.binding is None or not record.is_unfinished:
            return
        others = self._bound.get(record.binding, set()) - {record.id}
        if any(self._records[other].is_unfinished for other in others):
            raise UploadExists

    def _put(self, record: UploadRecord) -> None:
        self._records[record.id] = record
        bisect.insort(self._ids, record.id)
        if record.expires_at is not None:
            bisect.insort(self._expiries, (record.expires_at, record.id))
        if record.binding is not None:
            self._bound.setdefault(record.binding, set()).add(record.id)
        self._note_notifiable(record)

    def _note_notifiable(self, record: UploadRecord) -> None:
        if record.notify_at is None:
            self._notifiable.discard(record.id)
        else:
            self._notifiable.add(record.id)

    def _forget(self, upload_id: str) -> None:
        record = self._records.pop(upload_id)
        self._notifiable.discard(upload_id)
        del self._ids[bisect.bisect_left(self._ids, upload_id)]
        if record.expires_at is not None:
            entry = (record.expires_at, upload_id)
            del self._expiries[bisect.bisect_left(self._expiries, entry)]
        if record.binding is not None:
            ids = self._bound[record.binding]
            ids.discard(upload_id)
            if not ids:
                del self._bound[record.binding]
