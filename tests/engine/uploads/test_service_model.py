"""Random walks through the life of an upload, against a model that is a few lines long.

The model knows what was acknowledged. Whatever happens, an acknowledged byte is never taken
back, and a published file is exactly what was acknowledged (invariants 1, 2 and 11).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.running import Wire, at, body, resumables, running, wish
from forebay.errors import (
    Forbidden,
    Gone,
    IncompleteBody,
    InconsistentLength,
    NotFound,
    OffsetMismatch,
    TooLarge,
    WrongState,
)
from forebay.model import UploadState
from kinds import made_folder

pieces = st.binary(max_size=50)
shifts = st.sampled_from([0, 0, 0, 0, -1, 1, 7])


class OneUpload(RuleBasedStateMachine):
    """One upload of known or deferred length; every rule is one request of a client."""

    kind = "files"

    def __init__(self) -> None:
        super().__init__()
        self.place = contextlib.ExitStack()
        self.folder = self.place.enter_context(made_folder(self.kind))
        self.loop = asyncio.new_event_loop()
        self.stack = contextlib.AsyncExitStack()
        self.acknowledged = b""
        self.length: int | None = None
        self.ended = False
        self.complete = False

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def start(self) -> None:
        self.engine = self.run(self.stack.enter_async_context(running(self.folder, max_size=120)))
        self.uploads = resumables(self.engine)

    @initialize(length=st.one_of(st.none(), st.integers(0, 100)))
    def create(self, length: int | None) -> None:
        self.start()
        self.length = length
        self.id = self.run(self.uploads.create(wish(length))).id

    @rule(
        data=pieces, shift=shifts, cut=st.booleans(), told=st.one_of(st.none(), st.integers(0, 130))
    )
    def append(self, data: bytes, shift: int, cut: bool, told: int | None) -> None:
        offset = max(0, len(self.acknowledged) + shift)
        wire = Wire(len(data) + 5 if cut else len(data))
        wire.send(data, last=not cut)
        wire.cut()
        try:
            standing = self.run(self.uploads.append(at(self.id, offset, length=told), wire.source))
        except OffsetMismatch as error:
            assert offset != len(self.acknowledged)
            assert error.detail["expected"] == len(self.acknowledged)
        except WrongState:
            assert self.complete
        except (NotFound, Gone):
            assert self.ended
        except InconsistentLength:
            assert told is not None
            assert told != self.length
        except TooLarge:
            limit = self.length if self.length is not None else (told if told is not None else 120)
            assert offset + (wire.source.length or 0) > min(limit, 120) or (told or 0) > 120
        except IncompleteBody:
            assert cut
            self.length = told if self.length is None else self.length
            self.acknowledged += data
        else:
            assert not self.ended
            assert not cut or standing.replayed
            self.length = told if self.length is None else self.length
            if not standing.replayed:
                assert not self.complete
                self.acknowledged += data
            self.complete = standing.complete
            assert self.complete == (len(self.acknowledged) == self.length)

    @rule()
    def ask(self) -> None:
        try:
            record = self.run(self.uploads.offset(self.id))
        except (NotFound, Gone):
            assert self.ended
            return
        assert record.offset == len(self.acknowledged)
        # Asking completes what has all its bytes and only lost its last step.
        self.complete = record.state is UploadState.COMPLETE
        assert self.complete == (record.offset == self.length)

    @rule()
    def look(self) -> None:
        with contextlib.suppress(NotFound):
            record = self.run(self.uploads.peek(self.id))
            assert not self.ended
            assert record.offset == len(self.acknowledged)

    @rule()
    def restart(self) -> None:
        self.run(self.stack.aclose())
        self.start()

    @precondition(lambda self: not self.ended)
    @rule()
    def verified_and_wrong(self) -> None:
        """Bytes under a wrong digest are forgotten."""
        from forebay.errors import DigestMismatch
        from forebay.model import Digest

        digest = Digest("md5", b"\0" * 16)
        append = at(self.id, len(self.acknowledged), expected=(digest,))
        try:
            self.run(self.uploads.append(append, body(b"?")))
        except (DigestMismatch, TooLarge, WrongState):
            return
        raise AssertionError("a wrong digest was accepted")

    @rule()
    def cancel(self) -> None:
        try:
            self.run(self.uploads.cancel(self.id))
        except (NotFound, Gone):
            assert self.ended
        except Forbidden:  # finished ones are removed only where that is allowed
            assert self.complete
            return
        self.ended = True

    @invariant()
    def what_is_visible_is_whole(self) -> None:
        file = self.folder / "f.bin"
        if file.exists():
            assert self.complete
            assert file.read_bytes() == self.acknowledged
        else:
            assert not self.complete

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.loop.close()
        self.place.close()


class InMemory(OneUpload):
    kind = "memory"


class AtAService(OneUpload):
    kind = "objects"


OneUpload.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
InMemory.TestCase.settings = AtAService.TestCase.settings = settings(
    OneUpload.TestCase.settings, max_examples=20
)
test_an_upload_keeps_its_promises_on_any_walk = OneUpload.TestCase
test_an_upload_in_memory_keeps_its_promises_on_any_walk = InMemory.TestCase
test_an_upload_at_a_service_keeps_its_promises_on_any_walk = AtAService.TestCase
