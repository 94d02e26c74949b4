"""Several nodes with one object service and one state, in one process, and their troubles."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from typing import Any

from engine.notifications import call_all
from forebay.config import Settings
from forebay.engine.engine import Engine
from forebay.engine.maintenance.sweep import Sweeper
from forebay.hooks.base import Completion
from forebay.hooks.python import PythonHooks
from forebay.protocol.names import numbered
from objects.service import NoAnswer, ObjectService
from objects.sessions import LeasedSessions, SharedState
from objects.store import ObjectStore

LEAST = 1024
PART = 2 * LEAST
_STORE_FAULTS = ("refused", "before", "lost", "late", "slow")
_STATE_FAULTS = ("before", "lost")


class Line:
    """One node's way to the service; cut when the node dies."""

    def __init__(self, service: ObjectService) -> None:
        self._service = service
        self.cut = False

    def __getattr__(self, name: str) -> Any:
        if self.cut and callable(getattr(ObjectService, name, None)):
            return self._no_answer
        return getattr(self._service, name)

    def _no_answer(self, *_: Any, **__: Any) -> Any:
        raise NoAnswer


class Node:
    """An engine with its own store and its own connection to the state."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.name = name
        self.line = Line(cluster.service)
        self.dead = False
        store: Any = ObjectStore(
            self.line,  # type: ignore[arg-type]
            numbered=numbered,
            direct=cluster.direct,
            assume_sealable=not cluster.direct,
            inline=300,
            orphan_age=0,
        )
        self.sessions = LeasedSessions(cluster.state, name)
        self.sessions.chance = cluster.state_fault
        hooks = PythonHooks()
        hooks.completers.append(cluster.told)
        self.engine = Engine(Settings(dir="/none", min_free=0, threads=4), store, hooks=hooks)
        self.store = store

    async def open(self) -> None:
        sessions: Any = self.sessions
        await self.engine.open_uploads(sessions)

    def die(self) -> None:
        """Nothing that it does from now on has an effect, but for what is on its way."""
        self.dead = self.line.cut = True
        self.sessions.chance = lambda method: "before"
        self.sessions.go_on()
        self.sessions.state.dead.add(self.name)

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            await self.engine.close_uploads()
        self.engine.close()
        self.store.close()


class Cluster:
    """Args: how often requests to the service and the state fail, of 1; and the seed of that."""

    def __init__(
        self, seed: int, *, store_faults: float, state_faults: float, direct: bool
    ) -> None:
        self._random = random.Random(seed)
        self._store_faults, self._state_faults = store_faults, state_faults
        self.direct = direct
        self.service = ObjectService(least_part=LEAST)
        self.service.chance = self._store_fault
        self.state = SharedState()
        self.completed: list[str] = []
        """Ids that `on_complete` was called for."""
        self.nodes: list[Node] = []
        self._made = 0
        self._past: list[Node] = []

    def _store_fault(self, operation: str, key: str) -> str | None:
        if self._random.random() >= self._store_faults:
            return None
        return self._random.choice(_STORE_FAULTS)

    def state_fault(self, method: str) -> str | None:
        if self._random.random() >= self._state_faults:
            return None
        return self._random.choice(_STATE_FAULTS)

    async def told(self, completion: Completion) -> None:
        self.completed.append(completion.id)

    async def add(self) -> Node:
        self._made += 1
        node = Node(self, f"node {self._made}")
        await node.open()
        self.nodes.append(node)
        return node

    async def replace(self, number: int) -> None:
        """That node dies, and another one takes its place."""
        node = self.nodes[number]
        node.die()
        self._past.append(node)
        made = await self.add()
        self.nodes.remove(made)
        self.nodes[number] = made

    def heal(self) -> None:
        """All that is wrong ends; requests that are late are done."""
        self._store_faults = self._state_faults = 0.0
        for node in self.nodes:
            node.sessions.go_on()
        self.service.heal()
        self.service.land()

    async def sweep(self) -> None:
        """When every upload has expired, all callbacks are called, and one node cleans up."""
        node = self.nodes[0]
        uploads = node.engine.uploads
        await call_all(uploads.notifier)
        sessions: Any = node.sessions
        sweeper = Sweeper(
            node.store,
            sessions,
            node.engine.workers,
            node.engine.context.locks,
            uploads.notifier.soon,
            uploads.accesses,
        )
        for _ in range(2):
            await sweeper.run(time.time() + 10**7)
            await call_all(uploads.notifier)

    async def close(self) -> None:
        for node in (*self.nodes, *self._past):
            await node.close()


@contextlib.asynccontextmanager
async def running(nodes: int, seed: int, **more: Any) -> AsyncIterator[Cluster]:
    cluster = Cluster(seed, **more)
    try:
        for _ in range(nodes):
            await cluster.add()
        yield cluster
    finally:
        cluster.heal()
        for node in cluster.nodes:
            node.sessions.go_on()
        await cluster.close()
        await asyncio.sleep(0)
