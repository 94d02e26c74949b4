"""Places for uploads go to those who send."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from forebay.config import Settings
from forebay.engine.transfer.admission import Admission, Tally
from forebay.engine.transfer.monitor import Monitor
from forebay.engine.transfer.pump import BodyWriter
from forebay.errors import TooManyUploads, TooSlow, UploadError

pytestmark = pytest.mark.anyio

SETTINGS = Settings(max_uploads=3)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Sender:
    """A source whose client sends `rate` bytes a second, or whose store is `slow`."""

    length = None

    def __init__(self, watch: Monitor, rate: int, *, slow: bool = False) -> None:
        self.rate = rate
        self.writer = BodyWriter(_Sink())
        now = asyncio.get_running_loop().time()
        self.waiting_since: float | None = None if slow else now
        self.error: UploadError | None = None
        self.transfer = watch.add(self, self.writer)  # type: ignore[arg-type]

    def stop(self, error: UploadError) -> None:
        self.error = error


class _Sink:
    def write(self, data: memoryview, offset: int) -> None:
        return None

    def reserve(self, size: int) -> None:
        return None


def seconds(watch: Monitor, count: int, senders: list[Sender]) -> None:
    for _ in range(count):
        for sender in senders:
            if sender.rate:
                sender.writer.feed(memoryview(bytes(sender.rate)))
        watch._tick(asyncio.get_running_loop())


def full(watch: Monitor, admission: Admission) -> None:
    admission.make_room = watch.make_room
    for _ in range(3):
        admission.enter()


async def test_one_that_sends_nothing_gives_way_to_a_new_one():
    watch, admission = Monitor(SETTINGS), Admission(SETTINGS)
    full(watch, admission)
    quick, trickling, silent = (Sender(watch, rate) for rate in (100_000, 1, 0))
    with pytest.raises(TooManyUploads):  # all have just come
        admission.enter()
    seconds(watch, 20, [quick, trickling, silent])
    admission.enter()
    assert isinstance(silent.error, TooManyUploads)
    assert (quick.error, trickling.error) == (None, None)
    admission.enter()
    assert isinstance(trickling.error, TooManyUploads)
    with pytest.raises(TooManyUploads):
        admission.enter()
    assert quick.error is None


async def test_who_was_refused_has_a_place_when_told_to_come_again():
    """Bug: uploads that send nothing kept their places for 14 seconds, and new ones got 503."""
    watch, admission = Monitor(SETTINGS), Admission(SETTINGS)
    full(watch, admission)
    silent = [Sender(watch, 0) for _ in range(3)]
    with pytest.raises(TooManyUploads) as refusal:
        admission.enter()
    seconds(watch, refusal.value.detail["retry_after"], silent)
    admission.enter()
    assert [sender.error is None for sender in silent].count(False) == 1


async def test_one_that_sends_nothing_to_another_process_gives_way_too():
    """Bug: a process that had none of them refused new uploads for as long as they stayed."""
    tallies = [Tally(2)]
    tallies.append(copy.copy(tallies[0]))  # as after a fork
    watches = [Monitor(SETTINGS) for _ in tallies]
    here, there = (Admission(SETTINGS, tally) for tally in tallies)
    for number, (admission, watch) in enumerate(zip((here, there), watches, strict=True)):
        tallies[number].take_slot(number)
        admission.make_room, watch.share_idle = watch.make_room, admission.share_idle
    for _ in range(3):
        there.enter()
    senders = [Sender(watches[1], rate) for rate in (100_000, 0, 0)]
    with pytest.raises(TooManyUploads):  # all have just come
        here.enter()
    seconds(watches[1], 10, senders)
    here.enter()
    here.enter()
    with pytest.raises(TooManyUploads):
        here.enter()
    assert [sender.error for sender in senders] == [None] * 3
    seconds(watches[1], 1, senders)
    assert senders[0].error is None
    assert all(isinstance(sender.error, TooManyUploads) for sender in senders[1:])
    with pytest.raises(TooManyUploads):
        here.enter()


async def test_one_that_waits_for_us_keeps_its_place():
    watch, admission = Monitor(SETTINGS), Admission(SETTINGS)
    full(watch, admission)
    senders = [Sender(watch, 0, slow=True) for _ in range(3)]
    seconds(watch, 200, senders)
    with pytest.raises(TooManyUploads):
        admission.enter()
    assert [sender.error for sender in senders] == [None] * 3


async def test_the_slowest_body_that_is_put_up_with_has_a_default():
    watch = Monitor(Settings())
    slow, honest, ours = Sender(watch, 900), Sender(watch, 1100), Sender(watch, 0, slow=True)
    senders = [slow, honest, ours]
    for sender in senders:
        sender.waiting_since = None if sender is ours else asyncio.get_running_loop().time()
    seconds(watch, 59, senders)
    assert [sender.error for sender in senders] == [None] * 3
    seconds(watch, 2, senders)
    assert isinstance(slow.error, TooSlow)
    assert (honest.error, ours.error) == (None, None)


async def test_time_that_a_slow_disk_takes_does_not_count_against_a_client():
    watch = Monitor(Settings())
    sender: Any = Sender(watch, 0)
    for _ in range(30):
        sender.waiting_since, sender.rate = None, 0
        seconds(watch, 10, [sender])
        sender.waiting_since, sender.rate = asyncio.get_running_loop().time(), 2000
        seconds(watch, 2, [sender])
    assert sender.error is None
