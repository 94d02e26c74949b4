"""A request that is cancelled while its file gets its name."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from engine.notifications import wait_for_calls
from engine.running import body, resumables, running
from forebay.errors import NotFound
from forebay.hooks.base import Completion
from forebay.model import Conflict, Receive
from forebay.stores.base import Publication, Published
from forebay.stores.files.staged import StagedFile

BODY = b"whole" * 1000


@pytest.mark.parametrize("after", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("conflict", [Conflict.REFUSE, Conflict.RENAME, Conflict.REPLACE])
def test_a_file_that_was_published_while_its_request_was_cancelled_was_told_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conflict: Conflict, after: bool
) -> None:
    publish, here, go_on = StagedFile.publish, threading.Event(), threading.Event()

    def held(self: StagedFile, how: Publication) -> Published:
        published = publish(self, how) if after else None
        here.set()
        assert go_on.wait(30)
        if published is None:
            raise NotFound  # whatever refuses it
        return published

    monkeypatch.setattr(StagedFile, "publish", held)
    heard: list[Completion] = []

    async def main() -> None:
        async with running(tmp_path) as engine:
            engine.hooks.completers.append(heard.append)  # type: ignore[attr-defined]
            wish = Receive("a.bin", conflict)
            request = asyncio.create_task(engine.receive_file(wish, body(BODY)))
            await asyncio.to_thread(here.wait, 30)
            request.cancel()
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await request
            assert list(engine.store.remains()) == []
            await wait_for_calls(resumables(engine).notifier)
            sessions = resumables(engine)._sessions
            assert await sessions.count() == 0

    asyncio.run(main())
    there = [path.name for path in tmp_path.iterdir() if path.is_file()]
    assert there == (["a.bin"] if after else [])
    assert [told.stored.file.name for told in heard] == there
