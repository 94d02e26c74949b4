"""A client that sends one file through any node, and believes what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from typing import Any

from engine.running import Wire
from forebay.errors import (
    BodyFailed,
    Gone,
    Interrupted,
    NameTaken,
    NotFound,
    OffsetMismatch,
    StorageError,
    UploadBusy,
    UploadError,
    WrongState,
)
from forebay.model import AppendUpload, Conflict, CreateUpload, UploadState
from history.cluster import Cluster, Node

PATIENCE = 0.25
"""Seconds after which the client gives a request up and asks elsewhere."""
_AGAIN = (BodyFailed, Interrupted, OffsetMismatch, StorageError, UploadBusy)


@dataclasses.dataclass(frozen=True)
class Step:
    """One request: `size` bytes by the node of that number; `cut` in the middle of them."""

    node: int
    size: int
    cut: bool = False
    ask: bool = True


class Client:
    def __init__(self, cluster: Cluster, number: int, size: int, conflict: Conflict) -> None:
        self._cluster = cluster
        self._conflict = conflict
        self.content = random.Random(number * 1000 + size).randbytes(size)
        self.id = ""
        self.offset = 0
        """The highest that it was told."""
        self.final_name: str | None = None
        self.refused = False
        self._given_up: list[asyncio.Task[Any]] = []

    async def create(self, node: Node) -> None:
        command = CreateUpload("tus", "f.bin", self._conflict, len(self.content))
        self.id = (await self._wait(node.engine.uploads.create(command))).id

    async def _wait(self, call: Any, patience: float = PATIENCE) -> Any:
        """The answer, unless it takes too long: the request then goes on without its client."""
        task = asyncio.ensure_future(call)
        done, _ = await asyncio.wait([task], timeout=patience)
        if not done:
            self._given_up.append(task)
            raise StorageError("the client has given up")
        return task.result()

    def told(self, offset: int) -> None:
        assert offset >= self.offset, f"{offset} was told after {self.offset}"
        assert offset <= len(self.content)
        self.offset = offset

    async def step(self, step: Step, patience: float = PATIENCE) -> None:
        """One request and its answer; errors after which a client goes on are none."""
        node = self._cluster.nodes[step.node % len(self._cluster.nodes)]
        try:
            if not self.id:
                await self.create(node)
            if step.ask:
                record = await self._wait(node.engine.uploads.offset(self.id), patience)
                self.told(record.offset)
                if record.state is UploadState.COMPLETE:
                    self._complete(record)
                    return
            await self._append(node, step, patience)
        except NameTaken:
            assert self._conflict is Conflict.REFUSE
            self.refused = True
        except _AGAIN:
            pass

    async def _append(self, node: Node, step: Step, patience: float) -> None:
        data = self.content[self.offset : self.offset + step.size]
        cut = step.cut and bool(data)
        wire = Wire(len(data))
        wire.send(data[: len(data) // 2] if cut else data, last=not cut)
        if cut:
            wire.cut()
        listening = True

        def on_offset(offset: int) -> None:
            if listening:
                self.told(offset)

        command = AppendUpload(self.id, "tus", self.offset)
        call = node.engine.uploads.append(command, wire.source, on_offset=on_offset)
        try:
            standing = await self._wait(call, patience)
        finally:
            listening = False
        self.told(standing.record.offset)
        if standing.complete:
            self._complete(standing.record)

    def _complete(self, record: Any) -> None:
        assert record.offset == len(self.content)
        assert record.final_name is not None
        assert self.final_name in (None, record.final_name)
        self.final_name = record.final_name

    async def finish(self) -> None:
        """Goes on until it is done, when nothing fails any more."""
        for attempt in range(60):
            if self.final_name is not None or self.refused:
                return
            await self.step(Step(attempt, len(self.content)), patience=5)
            await asyncio.sleep(0.02)
        raise AssertionError(f"the upload {self.id} does not end at {self.offset}")

    async def settle(self) -> None:
        """Waits for the requests that it gave up."""
        for task in self._given_up:
            with contextlib.suppress(UploadError, Gone, NotFound, WrongState):
                await task
