"""An engine that tells of whole uploads, the steps of that, and what is left after a crash."""

from __future__ import annotations

import time
from pathlib import Path

from engine.completion import content_of
from engine.crashes import Point, Watched
from engine.notifications import call_all
from engine.running import resumables, running
from forebay.engine.engine import Engine
from forebay.engine.maintenance.sweep import Sweeper
from forebay.hooks.base import Completion


class Told:
    """Notes of who was told, which outlive this process."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".forebay" / "told"

    def tell(self, completion: Completion) -> None:
        file = completion.stored.file
        with open(self._path, "a") as told:
            told.write(
                f"{completion.id} {file.name} {file.size} {len(completion.stored.digests)}\n"
            )

    def lines(self) -> list[str]:
        return self._path.read_text().splitlines() if self._path.exists() else []


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: content_of(path) for path in folder.iterdir() if path.is_file()}


def watch(engine: Engine, folder: Path, point: Point) -> None:
    """Has the engine tell, and pass `point` before and after each step that can be crashed at:
    create, publish, tell, delete.
    """
    tell = Watched(Told(folder), point, ("tell",)).tell
    engine.hooks.completers.append(tell)  # type: ignore[attr-defined]
    outbox = resumables(engine).outbox
    sessions = Watched(outbox._sessions, point, ("create", "delete"))
    outbox._sessions = outbox._notifier._sessions = sessions
    stage = engine.store.stage
    engine.store.stage = lambda *how: Watched(  # type: ignore[method-assign]
        stage(*how), point, ("publish",)
    )


async def sweep_twice(folder: Path) -> None:
    """As after a restart; nothing is staged any more then."""
    async with running(folder) as engine:
        uploads = resumables(engine)
        engine.hooks.completers.append(Told(folder).tell)  # type: ignore[attr-defined]
        sweeper = Sweeper(engine.store, uploads._sessions, engine.workers, engine.context.locks)
        for _ in range(2):
            await sweeper.run(time.time())
            await call_all(uploads.notifier)
        assert list(engine.store.remains()) == []
