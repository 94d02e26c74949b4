"""Upload state that several nodes share, with leases: all of it in one process, for tests.

`SharedState` is the database; a `LeasedSessions` is one node's connection to it. Nodes can stall,
die, lose answers and lose leases when a test says so.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from forebay.errors import (
    LeaseLost,
    SessionsUnavailable,
    UploadBusy,
)
from forebay.model import Commit, Lease, Piece, UploadRecord, UploadState
from forebay.sessions.memory import MemorySessions
from forebay.sessions.records import not_open

BLOCK = 8
"""Part numbers that a lease gets at once."""


@dataclasses.dataclass(slots=True)
class Held:
    """What the state knows of an upload beside its record."""

    fence: int = 0
    token: str = ""
    holder: str | None = None
    next_number: int = 1
    pieces: tuple[Piece, ...] = ()
    released: tuple[str, int] = ("", -1)
    """Token and offset of the last `advance(release=True)`, which may be repeated."""


class SharedState:
    """What all nodes see. Used on one event loop."""

    def __init__(self) -> None:
        self.records = MemorySessions()
        self.held: dict[str, Held] = {}
        self.names: dict[str, str] = {}
        self.nodes: dict[str, LeasedSessions] = {}
        self.dead: set[str] = set()
        """Nodes whose leases anybody may take."""
        self.unfenced: list[tuple[str, str]] = []
        """Changes without a lease: what called, and what it changed."""
        self.told: dict[str, int] = {}
        """The highest offset recorded of each upload."""

    def lose(self, upload_id: str) -> None:
        """Takes the lease away from whoever has it, as another node would that thinks it dead."""
        held = self.held[upload_id]
        held.fence += 1
        held.token = secrets.token_hex(8)
        held.holder = None
        held.next_number += BLOCK


class LeasedSessions:
    """`Sessions`, `Leases` and `Names` of one node."""

    def __init__(self, state: SharedState, node: str = "node") -> None:
        self.state = state
        self.node = node
        self.chance: Callable[[str], str | None] = lambda method: None
        """Asked at each call; `before`: unavailable, not done; `lost`: done, no answer."""
        self._faults: list[tuple[str, str]] = []
        self._callbacks: list[Callable[[str], None]] = []
        self._open = False
        self._running = asyncio.Event()
        self._running.set()

    # --- faults ---

    def fail(self, method: str, kind: str) -> None:
        """The next call of that method is `before` or `lost`, as in `chance`."""
        self._faults.append((method, kind))

    def stall(self) -> None:
        """From now on calls of this node wait, as those of a paused machine."""
        self._running.clear()

    def go_on(self) -> None:
        self._running.set()

    async def _ask(self, method: str, do: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)  # an answer of another machine is never at once
        await self._running.wait()
        if not self._open:
            raise not_open()
        kind = self.chance(method)
        for fault in self._faults:
            if fault[0] == method:
                kind = fault[1]
                self._faults.remove(fault)
                break
        if kind == "before":
            raise SessionsUnavailable(retry_after=1)
        result = do()
        if asyncio.iscoroutine(result):  # of MemorySessions, which never waits
            result = await result
        if kind == "lost":
            raise SessionsUnavailable(retry_after=1)
        return result

    # --- Sessions ---

    async def open(self) -> None:
        self._open = True
        if self.state.records._open is False:
            await self.state.records.open()
        self.state.nodes[self.node] = self
        self.state.dead.discard(self.node)

    async def close(self) -> None:
        self._open = False
        self.state.dead.add(self.node)
        if self.state.nodes.get(self.node) is self:
            del self.state.nodes[self.node]

    async def create(self, record: UploadRecord) -> None:
        def do() -> Any:
            self.state.held.setdefault(record.id, Held())
            return self.state.records.create(record)

        await self._ask("create", do)

    async def load(self, upload_id: str) -> UploadRecord:
        return await self._ask("load", lambda: self.state.records.load(upload_id))

    async def load_bound(self, binding: str) -> UploadRecord:
        return await self._ask("load", lambda: self.state.records.load_bound(binding))

    async def advance(
        self,
        upload_id: str | Lease,
        offset: int | Commit,
        expires_at: float | None,
        *,
        release: bool = False,
    ) -> Any:
        """Of `Sessions` without a lease, of `Leases` with one."""
        if isinstance(upload_id, Lease):
            assert isinstance(offset, Commit)
            lease, commit = upload_id, offset
            do = lambda: self._advance(lease, commit, expires_at, release)  # noqa: E731
            return await self._ask("advance", do)
        assert isinstance(offset, int)
        self.state.unfenced.append(("advance", "offset"))
        plain, number = upload_id, offset
        return await self._ask(
            "advance", lambda: self.state.records.advance(plain, number, expires_at)
        )

    async def update(
        self, upload_id: str, *, version: int | None = None, **changes: Any
    ) -> UploadRecord:
        self.state.unfenced.extend(("update", name) for name in changes)
        return await self._ask(
            "update", lambda: self.state.records.update(upload_id, version=version, **changes)
        )

    async def delete(self, upload_id: str) -> None:
        self.state.unfenced.append(("delete", upload_id))

        def do() -> Any:
            self.state.held.pop(upload_id, None)
            return self.state.records.delete(upload_id)

        await self._ask("delete", do)

    async def expired(self, now: float, limit: int) -> Sequence[UploadRecord]:
        return await self._ask("expired", lambda: self.state.records.expired(now, limit))

    async def unnotified(self, before: float, limit: int) -> Sequence[UploadRecord]:
        return await self._ask("unnotified", lambda: self.state.records.unnotified(before, limit))

    async def page(
        self, *, state: UploadState | None = None, after: str = "", limit: int = 1000
    ) -> Sequence[UploadRecord]:
        return await self._ask(
            "page", lambda: self.state.records.page(state=state, after=after, limit=limit)
        )

    async def load_many(self, ids: Sequence[str]) -> Sequence[UploadRecord]:
        return await self._ask("load_many", lambda: self.state.records.load_many(ids))

    async def count(self) -> int:
        return await self._ask("count", self.state.records.count)

    async def in_place(self) -> None:
        await self._ask("in_place", self.state.records.in_place)

    async def probe(self) -> None:
        await self._ask("probe", self.state.records.probe)

    async def ask_release(self, upload_id: str) -> None:
        """To the node that holds it; nobody else is disturbed."""
        held = self.state.held.get(upload_id)
        holder = self.state.nodes.get(held.holder) if held and held.holder else None
        if holder is None or holder is self or not self._open:
            return
        for callback in holder._callbacks:
            asyncio.get_running_loop().call_soon(callback, upload_id)

    def on_release_asked(self, callback: Callable[[str], None]) -> None:
        self._callbacks.append(callback)

    # --- Leases ---

    async def enter(self, record: UploadRecord) -> Lease:
        def do() -> Lease:
            _done(self.state.records.create(record))
            held = self.state.held[record.id] = Held()
            return self._grant(record.id, held)

        return await self._ask("enter", do)

    async def acquire(
        self, upload_id: str, *, steal: bool = False
    ) -> tuple[UploadRecord, Sequence[Piece], Lease]:
        def do() -> tuple[UploadRecord, Sequence[Piece], Lease]:
            record = _done(self.state.records.load(upload_id))
            held = self.state.held.setdefault(upload_id, Held())
            free = held.holder in (None, self.node) or held.holder in self.state.dead
            if not free and not steal:
                raise UploadBusy(node=held.holder, retry_after=1)
            return record, held.pieces, self._grant(upload_id, held)

        return await self._ask("acquire", do)

    def _grant(self, upload_id: str, held: Held) -> Lease:
        held.fence += 1
        held.token = secrets.token_hex(8)
        held.holder = self.node
        numbers = range(held.next_number, held.next_number + BLOCK)
        held.next_number = numbers.stop
        return Lease(upload_id, held.fence, held.token, numbers)

    def _check(self, lease: Lease) -> Held:
        """What is held under the lease. Raises LeaseLost."""
        held = self.state.held.get(lease.upload_id)
        if held is None or (held.fence, held.token) != (lease.fence, lease.token):
            raise LeaseLost
        if held.holder != self.node:
            raise LeaseLost
        return held

    def _advance(
        self, lease: Lease, commit: Commit, expires_at: float | None, release: bool
    ) -> tuple[UploadRecord, Lease]:
        records = self.state.records
        again = self.state.held.get(lease.upload_id)
        done = (lease.token, commit.offset)
        if release and again and again.token == lease.token and again.released == done:
            return _done(records.load(lease.upload_id)), lease
        held = self._check(lease)
        record = _done(records.load(lease.upload_id))
        pieces = [piece for piece in held.pieces if piece not in commit.dropped]
        pieces += [piece for piece in commit.added if piece not in pieces]
        pieces.sort(key=lambda piece: piece.start)
        record = _done(records.advance(record.id, commit.offset, expires_at))
        if commit.place and commit.place != record.place:
            record = _done(records.update(record.id, place=commit.place))
        end = 0
        for piece in pieces:
            assert piece.start == end, f"the pieces of {record.id} do not join up: {pieces}"
            end += piece.size
        assert end in (commit.offset, 0), "the pieces are not what the offset says"
        held.pieces = tuple(pieces)
        self.state.told[record.id] = max(self.state.told.get(record.id, 0), commit.offset)
        first = max(commit.next_number, lease.numbers.start)
        if release:
            held.next_number = min(first, held.next_number)
            held.holder = None
            held.released = (lease.token, commit.offset)
            self._wake(record.id)
            return record, lease
        held.next_number = max(held.next_number, first + BLOCK)
        numbers = range(first, first + BLOCK)
        return record, dataclasses.replace(lease, numbers=numbers)

    async def change(self, lease: Lease, *, unclaim: str = "", **changes: Any) -> UploadRecord:
        def do() -> UploadRecord:
            self._check(lease)
            record = _done(self.state.records.update(lease.upload_id, **changes))
            if self.state.names.get(unclaim) == lease.upload_id:
                del self.state.names[unclaim]
            return record

        return await self._ask("change", do)

    async def release(self, lease: Lease, next_number: int) -> None:
        def do() -> None:
            try:
                held = self._check(lease)
            except LeaseLost:
                return
            if next_number in lease.numbers:
                held.next_number = next_number
            held.holder = None
            self._wake(lease.upload_id)

        await self._ask("release", do)

    async def delete_held(self, lease: Lease) -> None:
        def do() -> None:
            self._check(lease)
            del self.state.held[lease.upload_id]
            _done(self.state.records.delete(lease.upload_id))

        await self._ask("delete_held", do)

    async def pieces(self, upload_id: str) -> Sequence[Piece]:
        def do() -> Sequence[Piece]:
            _done(self.state.records.load(upload_id))
            return self.state.held.setdefault(upload_id, Held()).pieces

        return await self._ask("pieces", do)

    def _wake(self, upload_id: str) -> None:
        """Whoever waits asks again by itself; nothing to do in one process."""

    # --- Names ---

    async def claim(self, name: str, upload_id: str) -> str:
        return await self._ask("claim", lambda: self.state.names.setdefault(name, upload_id))

    async def unclaim(self, name: str, upload_id: str) -> None:
        def do() -> None:
            if self.state.names.get(name) == upload_id:
                del self.state.names[name]

        await self._ask("unclaim", do)


def _done(call: Any) -> Any:
    """The result of a call of MemorySessions, which never waits."""
    try:
        call.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("MemorySessions waited")
