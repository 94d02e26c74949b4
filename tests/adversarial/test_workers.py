"""The threads: what is started is waited for, delivered once or undone once, and never lost."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import weakref

import pytest

from adversarial.conftest import Run
from adversarial.inside import eventually
from forebay.engine.transfer.workers import Workers


class Thing:
    """A result that somebody has to put away."""

    def __init__(self) -> None:
        self.undone = 0

    def undo(self) -> None:
        self.undone += 1


def test_a_result_that_was_on_its_way_when_the_task_was_cancelled_is_undone(run: Run):
    async def main() -> None:
        workers = Workers(2)
        thing = Thing()

        async def cancel_the_other() -> None:
            await workers.run(int, together=True)
            other.cancel()  # whose answer has come with ours, but it has not run yet

        first = asyncio.create_task(cancel_the_other())
        other = asyncio.create_task(workers.run(lambda: thing, undo=Thing.undo, together=True))
        with pytest.raises(asyncio.CancelledError):
            await other
        await first
        assert await eventually(lambda: thing.undone > 0)
        await workers.run(int)
        assert thing.undone == 1
        workers.close()

    run(main())


def test_a_cancelled_job_is_stopped_once_outlived_and_undone_once(run: Run):
    async def main() -> None:
        workers = Workers(2)
        begun, go, thing, stops = threading.Event(), threading.Event(), Thing(), []

        def job() -> Thing:
            begun.set()
            go.wait(20)
            return thing

        task = asyncio.create_task(workers.run(job, undo=Thing.undo, stop=lambda: stops.append(1)))
        await eventually(begun.is_set)
        for _ in range(5):
            task.cancel()
            await asyncio.sleep(0.01)
        assert not task.done()  # what the job uses must not be closed under it
        assert stops == [1]
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await eventually(lambda: thing.undone > 0)
        await workers.run(int)
        assert thing.undone == 1
        workers.close()

    run(main())


def test_every_result_is_taken_or_undone_whenever_the_tasks_are_cancelled(run: Run):
    seed = random.randrange(1 << 32)
    choose = random.Random(seed)

    async def main() -> None:
        workers = Workers(4)
        things: list[Thing] = []
        taken: set[int] = set()

        def make() -> Thing:
            thing = Thing()
            things.append(thing)
            return thing

        async def take(together: bool) -> None:
            taken.add(id(await workers.run(make, undo=Thing.undo, together=together)))

        for _ in range(60):
            tasks = [asyncio.create_task(take(choose.random() < 0.5)) for _ in range(20)]
            for _ in range(choose.randrange(4)):
                await asyncio.sleep(0)
            for task in choose.sample(tasks, 10):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert await eventually(lambda: all(t.undone or id(t) in taken for t in things)), seed
        for thing in things:
            assert thing.undone + (id(thing) in taken) == 1, seed
        workers.close()

    run(main())


def test_jobs_that_travel_together_fail_and_finish_each_for_itself(run: Run):
    async def main() -> None:
        workers = Workers(2)

        def job(number: int) -> int:
            if number % 3 == 0:
                raise ValueError(number)
            return number

        jobs = [workers.run(job, number, together=True) for number in range(200)]
        results = await asyncio.gather(*jobs, return_exceptions=True)
        for number, result in enumerate(results):
            if number % 3 == 0:
                assert isinstance(result, ValueError)
                assert result.args == (number,)
            else:
                assert result == number
        workers.close()

    run(main())


def test_a_job_that_raises_stop_iteration_holds_nobody_up(run: Run):
    async def main() -> None:
        workers = Workers(1)

        def job() -> None:
            raise StopIteration

        bad, good = workers.run(job, together=True), workers.run(int, together=True)
        results = await asyncio.wait_for(asyncio.gather(bad, good, return_exceptions=True), 20)
        assert isinstance(results[0], RuntimeError)
        assert results[1] == 0
        workers.close()

    run(main())


def test_an_idle_thread_does_not_hold_on_to_what_it_did_last(run: Run):
    async def main() -> None:
        workers = Workers(1)
        thing = await workers.run(Thing)
        kept = weakref.ref(thing)
        await workers.run(Thing.undo, thing)
        del thing
        gc.collect()
        assert await eventually(lambda: kept() is None)
        workers.close()

    run(main())


def test_an_answer_that_no_loop_took_does_not_hold_up_the_next_loop(run: Run):
    workers = Workers(1)
    begun, go = threading.Event(), threading.Event()

    def slow(_: object) -> None:
        begun.set()
        go.wait(20)

    async def first() -> None:
        task = asyncio.create_task(workers.run(int, undo=slow))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await eventually(begun.is_set)

    async def second() -> int:
        return await asyncio.wait_for(workers.run(int), 20)

    run(first())
    go.set()
    for _ in range(200):  # its answer finds a closed loop
        if not workers._busy:
            break
        threading.Event().wait(0.01)
    assert run(second()) == 0
    workers.close()


def test_closed_workers_refuse_at_once_and_still_undo(run: Run):
    async def main() -> None:
        workers = Workers(1)
        begun, go, thing = threading.Event(), threading.Event(), Thing()

        def job() -> Thing:
            begun.set()
            go.wait(20)
            return thing

        task = asyncio.create_task(workers.run(job, undo=Thing.undo))
        await eventually(begun.is_set)
        task.cancel()
        await asyncio.sleep(0)
        late = asyncio.create_task(workers.run(int, together=True))
        await asyncio.sleep(0)  # it is to be sent at the end of this turn
        workers.close()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait([late], timeout=20)
        assert late.done()
        assert await eventually(lambda: thing.undone == 1)
        for together in (False, True):
            with pytest.raises(RuntimeError, match="closed"):
                await asyncio.wait_for(workers.run(int, together=together), 20)

    run(main())


def test_joining_waits_for_what_is_under_way_and_no_longer_than_it_may(run: Run):
    async def main() -> None:
        workers = Workers(2)
        begun, go, done = threading.Event(), threading.Event(), []

        def job() -> None:
            begun.set()
            go.wait(20)
            done.append(1)

        task = asyncio.create_task(workers.run(job))
        await eventually(begun.is_set)
        workers.close()
        await asyncio.to_thread(workers.join, 0.05)
        assert not done
        go.set()
        await asyncio.to_thread(workers.join, 20)
        assert done
        await task

    run(main())


def test_a_thread_that_cannot_be_started_is_done_without(run: Run, monkeypatch: pytest.MonkeyPatch):
    async def main() -> None:
        workers = Workers(4)

        def no_more(_: object) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_more)
            for together in (False, True):
                with pytest.raises(RuntimeError, match="can't start"):
                    await asyncio.wait_for(workers.run(int, together=together), 20)
        assert await workers.run(int) == 0
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_more)
            jobs = [workers.run(int, number) for number in range(50)]
            assert await asyncio.wait_for(asyncio.gather(*jobs), 20) == list(range(50))
        assert workers._busy == 0
        workers.close()

    run(main())


def test_what_is_done_beside_is_done_once_and_its_error_is_told(run: Run):
    async def main() -> None:
        for threads in (1, 3):
            workers = Workers(threads)
            done: list[int] = []

            def job(workers: Workers = workers, done: list[int] = done) -> None:
                for number in range(300):
                    workers.beside(done.append, number).wait()
                with pytest.raises(ZeroDivisionError):
                    workers.beside(lambda: 1 / 0).wait()

            await asyncio.gather(workers.run(job), workers.run(job))
            assert sorted(done) == sorted([*range(300)] * 2)
            workers.close()

    run(main())


def test_no_buffer_is_lent_to_two(run: Run):
    async def main() -> None:
        workers = Workers(8, buffer_size=64)
        lock, lent = threading.Lock(), set[int]()

        def job(number: int) -> None:
            with workers.buffer() as one, workers.buffer() as two:
                with lock:
                    assert not lent & {id(one), id(two)}
                    lent.update((id(one), id(two)))
                one[:] = two[:] = bytes([number % 256]) * 64
                assert one == two
                with lock:
                    lent.difference_update((id(one), id(two)))

        await asyncio.gather(*(workers.run(job, n) for n in range(2000)))
        assert len(workers._buffers) <= 16
        workers.close()

    run(main())
