"""What every use case of the engine works with: settings, ports, worker threads, budgets.

No use case is in here, and nothing below `engine.engine` knows more of the engine than this.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.transfer.admission import Admission, Tally, smallest
from forebay.engine.transfer.monitor import Monitor
from forebay.engine.transfer.pump import BodyWriter, Source, pump
from forebay.engine.transfer.spool import Budget
from forebay.engine.transfer.workers import Workers
from forebay.hooks.base import Access, Hooks
from forebay.hooks.python import PythonHooks
from forebay.locks.base import Locks
from forebay.locks.memory import MemoryLocks
from forebay.model import NOTHING_SAID, About, Principal
from forebay.stores.base import Roomy, Store

if TYPE_CHECKING:
    from forebay.config import Settings
    from forebay.engine.transfer.progress import ProgressFeed


class EngineContext:
    """One per engine, so one per process and event loop.

    Args:
        settings: may be replaced whole at any time by assigning `settings`.
        store: where files live; closed by the caller.
        locks: shared by all processes that serve the store; its own when left out.
        hooks: the application's callbacks.
        tally: shared by the worker processes of one server; its own when left out.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        locks: Locks | None = None,
        hooks: Hooks | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.store = store
        self.locks: Locks = locks or MemoryLocks()
        self.hooks: Hooks = hooks or PythonHooks()
        self.workers = Workers(settings.threads, settings.buffer_size)
        self.budget = Budget(settings.memory_budget)
        self.admission = Admission(settings, tally)
        self.monitor = Monitor(settings)
        self.admission.make_room = self.monitor.make_room
        self.monitor.share_idle = self.admission.share_idle
        self.hashing = asyncio.Semaphore(_hashing_slots(self.workers.limit))
        """Held while stored data is hashed."""
        self.settings = settings

    @property
    def settings(self) -> Settings:
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        """Applies to what starts from now on; running bodies keep their limits."""
        self._settings = settings
        self.admission.settings = settings
        self.monitor.settings = settings
        self.budget.limit = settings.memory_budget
        if isinstance(self.store, Roomy):
            self.store.min_free = settings.min_free

    def limit(self, own: int | None) -> int | None:
        """The smaller of a request's own size limit and `--max-size`, in bytes; None: no limit."""
        return smallest(own, self._settings.max_size)

    async def authorise(
        self,
        action: str,
        name: str,
        context: Mapping[str, Any] | None = None,
        *,
        upload_id: str = "",
        about: Callable[[], About] = lambda: NOTHING_SAID,
    ) -> Principal:
        """Asks the `authorise` callback; `about` is called only if that looks at the file.

        Raises NotAuthenticated, Forbidden.
        """
        return await self.hooks.authorise(Access(action, name, context or {}, upload_id, about))

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Counts an upload in for the block. Raises ShuttingDown, TooManyUploads."""
        self.admission.enter()
        try:
            yield
        finally:
            self.admission.leave()

    async def pump(
        self,
        source: Source,
        writer: BodyWriter,
        after_turn: Callable[[], None] | None = None,
        progress: ProgressFeed | None = None,
    ) -> None:
        """Moves a whole body, with the timeouts of the monitor. `after_turn` runs on the event
        loop between turns. Raises what the source and the writer raise.
        """
        transfer = self.monitor.add(source, writer)

        def between() -> None:
            if progress is not None:
                progress.report(writer)
            if after_turn is not None:
                after_turn()

        try:
            wanted = progress is not None or after_turn is not None
            await pump(source, writer, self.workers, between if wanted else None)
            if progress is not None:
                progress.report(writer, final=True)
        finally:
            self.monitor.remove(transfer)
            if progress is not None:
                progress.finish()

    def close(self) -> None:
        """Takes no more jobs in the worker threads."""
        self.workers.close()


def _hashing_slots(threads: int) -> int:
    """How many uploads may be hashed at once, so that most threads are left to serve."""
    return max(1, min(2, threads // 4))
