"""A form of tiny parts is taken apart in turns that are bounded by work, and not by bytes alone."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from adversarial.attack import ATTACKERS, others_are_served
from adversarial.conftest import Run
from adversarial.test_receive_source import Messages
from adversarial.test_source import draining
from e2e.server import ServerProcess
from forebay.engine.forms.parts import AsField, AsFile, Dropped, Place
from forebay.engine.forms.sink import FormSink
from forebay.engine.transfer.metering import Meter
from forebay.engine.transfer.pump import BodyWriter, pump
from forebay.engine.transfer.spool import Budget
from forebay.engine.transfer.workers import Workers
from forebay.http.drain import TURN_WORK
from forebay.http.framing import ChunkedFraming, Framing, LengthFraming
from forebay.model import LargeField
from forebay.protocol.multipart_head import PartHead
from form_limits import form_limits
from raw_http import content, head

TYPE = "Content-Type: multipart/form-data; boundary=b"
_DISPOSITION = b"\r\nContent-Disposition:form-data;name=a"
PARTS = {
    "fields": b"--b" + _DISPOSITION + b"\r\n\r\n\r\n",
    "heads": b"--b" + _DISPOSITION + b"\r\na:b" * 30 + b"\r\n\r\n\r\n",
    "parameters": b"--b" + _DISPOSITION + b";" * 60 + b"\r\n\r\n\r\n",
    "padding": b"--b" + b" " * 250 + _DISPOSITION + b"\r\n\r\n\r\n",
    "files": b"--b" + _DISPOSITION + b";filename=f\r\n\r\nx\r\n",
}
A_READ = (32 << 10) // 47 * 120
"""The most work that one read of such a form can bring."""


def dropped(head: PartHead) -> Dropped:
    return Dropped()


def sink_of(place: Place) -> FormSink:
    limits = form_limits(max_parts=10**6, max_fields=10**6, max_files=10**6, max_fields_size=10**9)
    return FormSink(
        b"b", limits, large=LargeField.REFUSE, place=place, stage=Any, check=lambda _: None,
        budget=Budget(10**9), threshold=1 << 16,
    )  # fmt: skip


def intake_of(sink: FormSink) -> BodyWriter:
    return BodyWriter(sink, meter=Meter(sink))


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_a_turn_ends_after_a_bounded_number_of_parts(run: Run, part: bytes, chunked: bool):
    wire = part * 5000 + b"--b--"
    place: Place = (lambda _: AsField()) if part is PARTS["fields"] else dropped

    async def main() -> None:
        framing: Framing = ChunkedFraming() if chunked else LengthFraming(len(wire))
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(wire), wire) if chunked else wire
        early = body[:200_000]
        with draining(framing, early=early) as drain:
            sink = sink_of(place)
            drain.writer = intake_of(sink)
            sending = asyncio.create_task(asyncio.to_thread(drain.peer.sendall, body[len(early) :]))
            turns, done = 0, False
            while not done:
                before = sink.work
                done = await asyncio.wait_for(drain.turn(), 20)
                turns += 1
                assert sink.work - before < TURN_WORK + A_READ
            await sending
            assert (drain.writer.costly, sink.offset) == (True, len(wire))
            assert turns > 10
            assert sum(1 for _ in sink.fields) == (place is not dropped)

    run(main())


def test_on_other_servers_too_and_others_get_the_thread_in_between(run: Run):
    wire = PARTS["fields"] * 20_000 + b"--b--"

    async def main() -> None:
        workers, messages, sink = Workers(1), Messages(), sink_of(dropped)
        messages.put(wire, False)
        work: list[int] = []
        task = asyncio.create_task(
            pump(messages_source(messages, len(wire)), intake_of(sink), workers)
        )
        while not task.done():
            await workers.run(lambda: work.append(sink.work))
        await task
        workers.close()
        steps = [later - earlier for earlier, later in itertools.pairwise(work)]
        assert max(steps) < 2 * (TURN_WORK + A_READ)
        assert len([step for step in steps if step]) > 50

    run(main())


def messages_source(messages: Messages, length: int) -> Any:
    from forebay.http.asgi_source import ReceiveSource

    return ReceiveSource(messages.receive, length)


def test_a_form_of_large_files_is_not_costly():
    sink = sink_of(lambda _: AsFile(threshold=1 << 30))
    writer = intake_of(sink)
    part = PARTS["files"].replace(b"x", content(1 << 20).replace(b"\r\n--b", b""))
    wire = memoryview(part * 3 + b"--b--")
    while len(wire):
        size = writer.portion(len(wire))
        writer.feed(wire[:size])
        wire = wire[size:]
    assert not writer.costly
    assert writer.portion(1 << 20) == 1 << 20
    sink.finish()
    sink.discard()


def test_others_are_served_while_many_send_forms_of_tiny_parts(
    start_server: Callable[..., ServerProcess],
):
    limits = ("--form-max-parts", "1000000", "--form-max-fields", "1000000")
    server = start_server("--durability", "relaxed", "--threads", "2", *limits)
    heads = [head("POST", "/files/", TYPE, length=10**12)] * ATTACKERS
    others_are_served(server, heads, PARTS["parameters"] * 600)
