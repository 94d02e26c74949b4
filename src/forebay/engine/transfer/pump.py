"""The pump: the only way of a body from its source to its sink.

`BodyWriter` is the part in worker threads: it counts, limits, hashes and writes. A `Source` is
where bytes come from; it calls `BodyWriter.feed` in worker threads, a turn at a time. Every dialect
and every server uses it, so that a limit is enforced in one place.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, cast

from forebay.engine.transfer.hashes import make
from forebay.engine.transfer.metering import Meter
from forebay.engine.transfer.workers import Beside, Workers
from forebay.errors import DigestMismatch, IncompleteBody, TooLarge, UploadError
from forebay.model import Digest
from forebay.stores.base import ALWAYS_ROOM

_HASH_BESIDE = 64 << 10
_ROOM_WAIT = 1.0
"""Seconds until another turn begins without room: the source may have been stopped meanwhile, and a
commit may be what makes room.
"""


class Sink(Protocol):
    """What a `BodyWriter` writes to: staged data, a spool, a decoder, the parser of a form."""

    def write(self, data: memoryview, offset: int) -> None:
        """Writes all of `data`, which is not kept, at `offset`."""
        ...

    def reserve(self, size: int) -> None:
        """Says that there will be `size` bytes in all."""
        ...


class BoundedSink(Sink, Protocol):
    """A sink that may be full. The methods are those of `forebay.stores.base.Staged`."""

    def room(self) -> int: ...

    def on_room(self, callback: Callable[[], None]) -> None: ...


class Source(Protocol):
    """Where a body comes from. Used by one task; `stop` may be called by another."""

    length: int | None
    """Bytes announced by Content-Length; None when the body tells its own end."""

    waiting_since: float | None
    """Loop time since when nothing but the client is waited for; None while it is not."""

    late: Late | None
    """Digests that come behind the body; None when none were announced."""

    @property
    def arrived(self) -> bool:
        """Whether some of the body is here, unasked: the next turn begins at once."""
        ...

    def take_whole(self) -> bytes | None:
        """The whole body when it is already here, else None and nothing is consumed."""
        ...

    async def turn(self, writer: BodyWriter, workers: Workers) -> bool:
        """Feeds what there is, a bounded amount and no more than the sink has room for; True when
        the body has ended.

        Raises IncompleteBody, MalformedBody, what `writer.feed` raises, or what `stop` was
        given.
        """
        ...

    def stop(self, error: UploadError) -> None:
        """Ends the running or next turn with `error`, between two reads."""
        ...


class Hashing:
    """Running digests of one body, by the names of `forebay.engine.transfer.hashes`."""

    def __init__(self, algorithms: Iterable[str] = ()) -> None:
        self._hashers = {name: make(name) for name in algorithms}
        self.updates: Sequence[Callable[[memoryview], object]] = tuple(
            hasher.update for hasher in self._hashers.values()
        )

    def update(self, data: memoryview) -> None:
        for update in self.updates:
            update(data)

    def digests(self, names: Iterable[str]) -> tuple[Digest, ...]:
        return tuple(Digest(name, self._hashers[name].digest()) for name in names)

    def verify(self, expected: Iterable[Digest]) -> None:
        """Raises DigestMismatch."""
        for digest in expected:
            if not hmac.compare_digest(self._hashers[digest.algorithm].digest(), digest.value):
                raise DigestMismatch(algorithm=digest.algorithm)


NO_HASHING = Hashing()


def hashing_for(expected: Iterable[Digest], wanted: Iterable[str]) -> Hashing:
    """Computes the digests to compare with `expected`, and those of the `wanted` algorithms."""
    names = {digest.algorithm for digest in expected} | set(wanted)
    return Hashing(sorted(names)) if names else NO_HASHING


class Late(Protocol):
    """Digests of a body that come when it has ended."""

    hashing: Hashing

    def verify(self) -> None:
        """Raises DigestMismatch, InvalidField."""
        ...


class BodyWriter:
    """Takes the bytes of one request into a sink. Used by one worker at a time.

    Args:
        sink: where they go, from `offset` on.
        limit: most bytes of this body; None for no limit.
        hashing: digests to keep up.
        room: tell the sink before anything is written that it will come up to this offset.
        meter: watches what taking the body apart costs, where it is taken apart.
    """

    __slots__ = (
        "_beside",
        "_hashing",
        "_meter",
        "_room",
        "bounded",
        "limit",
        "offset",
        "received",
        "sink",
        "start",
    )

    def __init__(
        self,
        sink: Sink,
        *,
        offset: int = 0,
        limit: int | None = None,
        hashing: Hashing = NO_HASHING,
        room: int = 0,
        meter: Meter | None = None,
    ) -> None:
        self.sink = sink
        room_of = getattr(sink, "room", None)
        self.bounded: BoundedSink | None = None
        """The sink if it may be full, else None."""
        if room_of is not None and room_of() < ALWAYS_ROOM:
            self.bounded = cast("BoundedSink", sink)
        self._meter = meter
        self.start = self.offset = offset
        self.received = 0
        self.limit = limit
        self._hashing = hashing if hashing.updates else None
        self._beside: Beside | None = None
        self._room = room

    def hash_also(self, hashing: Hashing) -> None:
        """Computes more digests. Before the first byte."""
        both = Hashing()
        both.updates = (*(self._hashing.updates if self._hashing else ()), *hashing.updates)
        self._hashing = both if both.updates else None

    def prepare(self) -> None:
        """Calls `reserve` of the sink, unless that was done, to be refused before `feed`."""
        room, self._room = self._room, 0
        if room:
            self.sink.reserve(room)

    @property
    def work(self) -> int:
        """The work of parsing it so far, in units of about 0.3 microseconds; 0 where it is not
        parsed.
        """
        return self._meter.work if self._meter is not None else 0

    @property
    def costly(self) -> bool:
        """Parsing it takes more time than receiving it: others are served first."""
        return self._meter is not None and self._meter.costly

    def portion(self, size: int) -> int:
        """How many of `size` bytes to feed at a time, so that no turn is much longer than it may
        be; 0 while the sink has no room.
        """
        if self.bounded is not None:
            return min(size, self.bounded.room())
        return size if self._meter is None else self._meter.room(size)

    @property
    def hashes(self) -> bool:
        """Whether a second buffer is useful: one is hashed while the other is filled."""
        return self._hashing is not None

    def wait_hashed(self) -> None:
        """Waits until no buffer that was fed is being hashed any more."""
        if self._beside is not None:
            work, self._beside = self._beside, None
            work.wait()

    def feed(self, data: memoryview, workers: Workers | None = None) -> None:
        """Takes all of `data`, which is not kept; with `workers` not beyond `wait_hashed`,
        or the next `feed`: large pieces are then hashed beside the writing.

        Raises TooLarge when the limit is passed (what fits is written first), and what the
        sink raises.
        """
        size = len(data)
        over = self.limit is not None and self.received + size > self.limit
        if over:
            assert self.limit is not None
            size = self.limit - self.received
            data = data[:size]
        if size:
            self.prepare()
            end = self.offset + size
            if self._hashing is not None:
                self.wait_hashed()
                if workers is not None and size >= _HASH_BESIDE:
                    self._beside = workers.beside(self._hashing.update, data)
                else:
                    self._hashing.update(data)
            self.sink.write(data, self.offset)
            self.offset = end
            self.received += size
            if self._meter is not None:
                self._meter.fed(size)
        if over:
            raise TooLarge(
                f"The body is larger than the {self.limit} bytes that may come here.",
                limit=self.limit,
            )


async def pump(
    source: Source,
    writer: BodyWriter,
    workers: Workers,
    after_turn: Callable[[], None] | None = None,
) -> None:
    """Moves the whole body. `after_turn` runs on the loop between turns.

    Reading stops while the sink is slow or full, so TCP slows the client down: nothing is queued.
    Raises what the source and the sink raise, and DigestMismatch for digests that came behind it.
    """
    if source.late is not None:
        writer.hash_also(source.late.hashing)
    while not await source.turn(writer, workers):
        if after_turn is not None:
            after_turn()
        if writer.bounded is not None and not writer.bounded.room():
            await _wait_for_room(writer.bounded)
    if source.length is not None and writer.received != source.length:
        raise IncompleteBody(f"The body ended after {writer.received} of {source.length} bytes.")
    if source.late is not None:
        source.late.verify()
    if after_turn is not None:
        after_turn()


async def _wait_for_room(sink: BoundedSink) -> None:
    loop = asyncio.get_running_loop()
    there = asyncio.Event()

    def on_room() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(there.set)

    sink.on_room(on_room)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_ROOM_WAIT):
            await there.wait()
