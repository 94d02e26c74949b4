"""Bodies by way of `receive()`, from an application's side that is slow, fails, or is stopped."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from adversarial.conftest import Run
from adversarial.inside import eventually
from forebay.engine.transfer.pump import BodyWriter, pump
from forebay.engine.transfer.workers import Workers
from forebay.errors import IncompleteBody, ShuttingDown, StorageError
from forebay.http.asgi_source import ReceiveSource
from raw_http import content


class Sink:
    def __init__(self, *errors: BaseException | None) -> None:
        self.data = bytearray()
        self.gate = threading.Event()
        self.gate.set()
        self.errors = list(errors)

    def write(self, data: memoryview, offset: int) -> None:
        assert self.gate.wait(20)
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        assert offset == len(self.data)
        self.data += data

    def reserve(self, size: int) -> None:
        return None


class Messages:
    """`receive` over a queue that the test fills."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def put(self, body: bytes, more: bool = True) -> None:
        self.queue.put_nowait({"type": "http.request", "body": body, "more_body": more})

    async def receive(self) -> dict[str, Any]:
        return await self.queue.get()


def test_all_that_a_slow_client_sends_is_written_while_it_is_waited_for(run: Run):
    """Not only what came first: the turn may last as long as the client likes."""

    async def main() -> None:
        workers, sink, messages = Workers(1), Sink(), Messages()
        source = ReceiveSource(messages.receive, None)
        task = asyncio.create_task(pump(source, BodyWriter(sink), workers))
        for number in range(4):
            messages.put(bytes([number]) * 10)
            assert await eventually(lambda number=number: len(sink.data) == 10 * number + 10)
        messages.put(b"", more=False)
        await asyncio.wait_for(task, 20)
        workers.close()

    run(main())


@pytest.mark.parametrize("error", [OSError("x"), RuntimeError("x")])
def test_nothing_is_written_after_a_piece_that_was_lost(run: Run, error: Exception):
    """A body whose length nobody knows would be stored with a hole."""

    async def main() -> None:
        workers, sink, messages = Workers(1), Sink(error), Messages()
        source = ReceiveSource(messages.receive, None)
        task = asyncio.create_task(pump(source, BodyWriter(sink), workers))
        messages.put(b"lost")
        assert await eventually(lambda: not sink.errors)
        await asyncio.sleep(0.05)
        messages.put(b"after", more=False)
        with pytest.raises(StorageError):
            await asyncio.wait_for(task, 20)
        assert not sink.data
        workers.close()

    run(main())


@pytest.mark.parametrize("end", ["stop", "disconnect", "cancel"])
def test_an_end_waits_for_the_write_under_way(run: Run, end: str):
    async def main() -> None:
        workers, sink, messages = Workers(2), Sink(), Messages()
        source = ReceiveSource(messages.receive, 100)
        sink.gate.clear()
        task = asyncio.create_task(pump(source, BodyWriter(sink), workers))
        messages.put(content(10))
        assert await eventually(lambda: workers._busy > 0)
        if end == "stop":
            source.stop(ShuttingDown())
        elif end == "cancel":
            task.cancel()
        else:
            messages.queue.put_nowait({"type": "http.disconnect"})
        await asyncio.sleep(0.05)
        assert not task.done()
        sink.gate.set()
        kind = {"stop": ShuttingDown, "cancel": asyncio.CancelledError}.get(end, IncompleteBody)
        with pytest.raises(kind):
            await asyncio.wait_for(task, 20)
        assert sink.data == content(10)
        assert ReceiveSource._alive == 0
        workers.close()

    run(main())
