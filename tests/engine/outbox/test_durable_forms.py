"""Forms of whose files somebody is told: each at least once, whenever the process dies.

As a program it is a process that dies: `python -m engine.outbox.test_durable_forms FOLDER POINT`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

from engine.crashes import crash_at, crashed_in
from engine.forms.test_receive import TYPE, file, form, wire
from engine.notifications import call_all
from engine.recorded import Told, files, sweep_twice, watch
from engine.running import resumables, running
from forebay.engine.forms.parts import AsFile
from forebay.engine.forms.request import FormRequest
from forebay.engine.maintenance.sweep import Sweeper
from forebay.errors import NameTaken, PreconditionFailed
from forebay.hooks.base import Completion
from forebay.model import Conflict, FormPolicy
from forebay.protocol import preconditions

CONTENT = {"a.bin": b"first" * 1000, "b.bin": b"second" * 1000}
BODY = form(*(file(name, content) for name, content in CONTENT.items()))
POINTS = 16  # for each file, before and after: create, publish, tell, delete


async def die_at(folder: Path, wanted: int) -> None:
    async with running(folder) as engine:
        watch(engine, folder, crash_at(wanted))
        async with engine.receive_form(wire(BODY), FormRequest(TYPE)) as received:
            await received.publish()


def die(folder: Path, point: int) -> str | None:
    return crashed_in("engine.outbox.test_durable_forms", folder, point)


@pytest.mark.parametrize("point", range(1, POINTS + 1))
def test_a_crash_at_any_step_tells_of_every_file_that_is_there(tmp_path: Path, point: int) -> None:
    where = die(tmp_path, point)
    assert where is not None

    asyncio.run(sweep_twice(tmp_path))
    there = files(tmp_path)
    assert there.items() <= CONTENT.items()
    lines = Told(tmp_path).lines()
    assert {line.split()[1] for line in lines} == set(there)
    assert len({line.split()[0] for line in lines}) == len(there)  # an id each
    assert len(lines) - len(there) == (where in ("after tell", "before delete"))


def test_there_are_no_more_steps_than_are_crashed_at(tmp_path: Path) -> None:
    assert die(tmp_path, POINTS + 1) is None


@pytest.mark.parametrize("policy", list(FormPolicy))
def test_a_name_that_is_taken_counts_for_its_file_or_for_all(
    tmp_path: Path, policy: FormPolicy
) -> None:
    async def main() -> None:
        heard: list[Completion] = []
        async with running(tmp_path, form_policy=policy) as engine:
            engine.hooks.completers.append(heard.append)  # type: ignore[attr-defined]

            async def quicker(candidate: object) -> None:
                (tmp_path / "b.bin").write_bytes(b"quicker")

            engine.hooks.verifiers.append(quicker)  # type: ignore[attr-defined]
            refuse = AsFile(conflict=Conflict.REFUSE)
            async with engine.receive_form(
                wire(BODY), FormRequest(TYPE, place=lambda _: refuse)
            ) as received:
                if policy is FormPolicy.ALL:
                    with pytest.raises(NameTaken):
                        await received.publish()
                else:
                    first, second = await received.publish()
                    assert first.stored is not None
                    assert isinstance(second.error, NameTaken)
            expected = ["a.bin"] if policy is FormPolicy.EACH else []
            assert [each.stored.file.name for each in heard] == expected
            assert await resumables(engine)._sessions.count() == 0
            assert list(engine.store.remains()) == []
            assert engine.context.admission.running == 0
        assert set(files(tmp_path)) == {*expected, "b.bin"}

    asyncio.run(main())


def test_a_request_that_is_cancelled_while_the_callback_runs_has_all_its_files_told_of_once(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)

            begun, go_on = asyncio.Event(), asyncio.Event()

            async def slow(completion: Completion) -> None:
                begun.set()
                await go_on.wait()
                Told(tmp_path).tell(completion)

            engine.hooks.completers.append(slow)  # type: ignore[attr-defined]

            async def send() -> None:
                async with engine.receive_form(wire(BODY), FormRequest(TYPE)) as received:
                    await received.publish()

            request = asyncio.create_task(send())
            await begun.wait()
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            assert files(tmp_path) == CONTENT
            go_on.set()
            assert uploads._sessions is not None
            await Sweeper(
                engine.store, uploads._sessions, engine.workers, engine.context.locks
            ).run(time.time())
            await call_all(uploads.notifier)
            assert sorted(line.split()[1] for line in Told(tmp_path).lines()) == sorted(CONTENT)
            assert list(engine.store.remains()) == []

    asyncio.run(main())


@pytest.mark.parametrize("hooked", [False, True], ids=["at once", "recorded"])
@pytest.mark.parametrize("policy", list(FormPolicy))
def test_files_of_one_form_never_replace_each_other(
    tmp_path: Path, policy: FormPolicy, hooked: bool
) -> None:
    """By what is there: the second of two names may be the number that the first was given."""
    body = form(*(file(name, name.encode() * n) for n, name in enumerate(_NAMES, 1)))
    replace = AsFile(conflict=Conflict.REPLACE)

    async def main() -> None:
        heard: list[Completion] = []
        async with running(tmp_path, form_policy=policy) as engine:
            if hooked:
                engine.hooks.completers.append(heard.append)  # type: ignore[attr-defined]
            for there in ({}, {"a.bin": b"of another"}, None):
                if there is not None:
                    for path in tmp_path.glob("*.bin"):
                        path.unlink()
                    for name, content in there.items():
                        (tmp_path / name).write_bytes(content)
                async with engine.receive_form(
                    wire(body), FormRequest(TYPE, place=lambda _: replace)
                ) as received:
                    outcomes = await received.publish()
                names = [one.stored.file.name for one in outcomes if one.stored is not None]
                assert len(set(names)) == len(_NAMES)
                assert names[0] == "a.bin"
                for number, (sent, name) in enumerate(zip(_NAMES, names, strict=True), 1):
                    assert (tmp_path / name).read_bytes() == sent.encode() * number
            assert len(heard) == (3 * len(_NAMES) if hooked else 0)

    asyncio.run(main())


_NAMES = ("a.bin", "a.bin", "a (1).bin", "a.bin", "a (2).bin")


@pytest.mark.parametrize("policy", list(FormPolicy))
def test_a_file_that_may_replace_one_version_only_does_not_replace_a_new_one(
    tmp_path: Path, policy: FormPolicy
) -> None:
    async def main() -> None:
        async with running(tmp_path, form_policy=policy) as engine:
            (tmp_path / "a.bin").write_bytes(b"old")
            tag = f'"{engine.store.stat("a.bin").tag}"'.encode()
            condition = preconditions.parse([(b"if-match", tag)])
            place = AsFile(conflict=Conflict.REPLACE, preconditions=condition)
            body = form(file("a.bin", b"1"), file("a.bin", b"2"))
            async with engine.receive_form(
                wire(body), FormRequest(TYPE, place=lambda _: place)
            ) as received:
                if policy is FormPolicy.ALL:
                    with pytest.raises(PreconditionFailed, match=r"'a.bin' in the field"):
                        await received.publish()
                    assert (tmp_path / "a.bin").read_bytes() == b"old"
                else:
                    outcomes = await received.publish()
                    assert [one.stored is not None for one in outcomes] == [True, False]
                    assert (tmp_path / "a.bin").read_bytes() == b"1"

    asyncio.run(main())


if __name__ == "__main__":
    asyncio.run(die_at(Path(sys.argv[1]), int(sys.argv[2])))
