"""A backend against a dict: Hypothesis looks for calls after which they differ."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from forebay.errors import (
    AlreadyExists,
    ForebayError,
    NotFound,
    OffsetMismatch,
    UploadExists,
    WrongState,
)
from forebay.model import UploadRecord, UploadState
from forebay.sessions.base import Sessions

from .samples import record

IDS = st.sampled_from(["a", "b", "c"])
OFFSETS = st.integers(0, 5)
TIMES = st.none() | st.sampled_from([1.0, 2.0, 3.0])
BINDINGS = st.none() | st.sampled_from(["f", "g"])
STATES = st.sampled_from([UploadState.OPEN, UploadState.OPEN, UploadState.FAILED])


class SessionsMachine(RuleBasedStateMachine):
    """The same calls on a backend and on a dict have the same outcome and leave the same."""

    def make(self) -> Sessions:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, UploadRecord] = {}
        self.runner = asyncio.Runner()
        self.sessions = self.make()
        self.runner.run(self.sessions.open())

    def teardown(self) -> None:
        self.check_everything()
        self.runner.run(self.sessions.close())
        self.runner.close()

    def outcome(self, call: Any) -> object:
        """What it returned, or the type of what it raised."""

        async def main() -> object:
            try:
                return await call
            except ForebayError as error:
                return type(error)

        return self.runner.run(main())

    def change(self, upload_id: str, **changes: Any) -> UploadRecord:
        old = self.model[upload_id]
        self.model[upload_id] = dataclasses.replace(old, **changes, version=old.version + 1)
        return self.model[upload_id]

    def collides(self, new: UploadRecord) -> bool:
        """Whether another one that is alive has the binding."""
        return new.binding is not None and any(
            kept.id != new.id and kept.binding == new.binding and kept.state is UploadState.OPEN
            for kept in [*self.model.values(), new]
            if new.state is UploadState.OPEN
        )

    @rule(upload_id=IDS, state=STATES, offset=OFFSETS, expires_at=TIMES, binding=BINDINGS)
    def create(self, upload_id: str, **values: Any) -> None:
        new = record(upload_id, **values)
        expected: object = None
        if upload_id in self.model:
            expected = AlreadyExists
        elif self.collides(new):
            expected = UploadExists
        else:
            self.model[upload_id] = new
        assert self.outcome(self.sessions.create(new)) is expected

    @rule(upload_id=IDS, offset=OFFSETS, expires_at=TIMES)
    def advance(self, upload_id: str, offset: int, expires_at: float | None) -> None:
        old = self.model.get(upload_id)
        expected: object
        if old is None:
            expected = NotFound
        elif old.state is not UploadState.OPEN:
            expected = WrongState
        elif offset < old.offset:
            expected = OffsetMismatch
        else:
            expected = self.change(upload_id, offset=offset, expires_at=expires_at)
        assert self.outcome(self.sessions.advance(upload_id, offset, expires_at)) == expected

    @rule(upload_id=IDS, version=st.none() | st.integers(1, 4), state=STATES, expires_at=TIMES)
    def update(self, upload_id: str, version: int | None, **changes: Any) -> None:
        old = self.model.get(upload_id)
        expected: object
        if old is None:
            expected = NotFound
        elif version not in {None, old.version}:
            expected = WrongState
        elif self.collides(dataclasses.replace(old, **changes)):
            expected = UploadExists
        else:
            expected = self.change(upload_id, **changes)
        call = self.sessions.update(upload_id, version=version, **changes)
        assert self.outcome(call) == expected

    @rule(upload_id=IDS)
    def delete(self, upload_id: str) -> None:
        self.model.pop(upload_id, None)
        assert self.outcome(self.sessions.delete(upload_id)) is None

    @rule()
    def check_everything(self) -> None:
        records = sorted(self.model.values(), key=lambda kept: kept.id)
        assert self.outcome(self.sessions.page()) == records
        assert self.outcome(self.sessions.count()) == len(records)
        for binding in ("f", "g"):
            bound = [kept for kept in records if kept.binding == binding]
            bound.sort(key=lambda kept: (kept.state is UploadState.OPEN, kept.id))
            expected: object = bound[-1] if bound else NotFound
            assert self.outcome(self.sessions.load_bound(binding)) == expected
        due = [kept for kept in records if kept.expires_at is not None and kept.expires_at <= 2.0]
        due.sort(key=lambda kept: (kept.expires_at, kept.id))
        assert self.outcome(self.sessions.expired(2.0, 10)) == due
