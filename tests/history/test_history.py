"""Histories of a cluster: nodes that stall, die and lose leases, requests that fail or land late.

Whatever happens: offsets that were told never fall, files have the bytes that were acknowledged, a
name has one winner, completions are told of, and a sweep leaves nothing at the service.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebay.engine.uploads import locking
from forebay.model import Conflict
from history.client import Client, Step
from history.cluster import PART, Cluster, running

NODES = 3


@dataclasses.dataclass(frozen=True)
class Trouble:
    """What happens to the cluster between two requests."""

    kind: str
    which: int


@dataclasses.dataclass(frozen=True)
class History:
    seed: int
    sizes: tuple[int, ...]
    conflict: Conflict
    steps: tuple[Step | Trouble, ...]
    store_faults: float
    state_faults: float
    direct: bool = False


troubles = st.builds(
    Trouble, st.sampled_from(["stall", "go on", "die", "steal", "land"]), st.integers(0, NODES - 1)
)
requests = st.builds(
    Step,
    st.integers(0, NODES - 1),
    st.integers(1, 3 * PART),
    st.booleans(),
    st.sampled_from([True, True, True, False]),
)
histories = st.builds(
    History,
    st.integers(0, 2**32),
    st.lists(st.integers(0, 5 * PART), min_size=1, max_size=2).map(tuple),
    st.sampled_from([Conflict.RENAME, Conflict.REFUSE]),
    st.lists(st.one_of(requests, requests, troubles), max_size=12).map(tuple),
    st.sampled_from([0.0, 0.05, 0.2]),
    st.sampled_from([0.0, 0.05]),
    st.booleans(),
)


async def make_trouble(cluster: Cluster, trouble: Trouble, clients: list[Client]) -> None:
    node = cluster.nodes[trouble.which]
    match trouble.kind:
        case "stall":
            node.sessions.stall()
        case "go on":
            node.sessions.go_on()
        case "die":
            await cluster.replace(trouble.which)
        case "steal":
            client = clients[trouble.which % len(clients)]
            if client.id in cluster.state.held:
                cluster.state.lose(client.id)
        case "land":
            cluster.service.land()


async def follow(history: History) -> None:
    async with running(
        NODES,
        history.seed,
        store_faults=history.store_faults,
        state_faults=history.state_faults,
        direct=history.direct,
    ) as cluster:
        # Where names are bound, the engine chooses no other one at the end.
        conflict = Conflict.REFUSE if history.direct else history.conflict
        clients = [
            Client(cluster, number, size, conflict) for number, size in enumerate(history.sizes)
        ]
        going: asyncio.Future[Any] | None = None
        for step in history.steps:
            if isinstance(step, Trouble):  # in the middle of the requests before it
                await asyncio.sleep(0.003)
                await make_trouble(cluster, step, clients)
                continue
            if going is not None:
                await going
            sending = [client for client in clients if client.final_name is None]
            going = asyncio.gather(*(client.step(step) for client in sending))
        if going is not None:
            await going
        cluster.heal()
        for client in clients:
            await client.settle()
        cluster.service.land()
        await asyncio.gather(*(client.finish() for client in clients))
        cluster.service.land()
        await check(cluster, clients)


async def check(cluster: Cluster, clients: list[Client]) -> None:
    complete = {client.final_name: client for client in clients if client.final_name}
    refused = [client for client in clients if client.refused and not client.final_name]
    assert len(complete) + len(refused) == len(clients), "two uploads have one name"
    assert complete, "nobody has the name"
    for _ in range(3):  # what a stopped request still ships, or lands late, goes with a later sweep
        await cluster.sweep()
        if not cluster.service.land() and set(cluster.service.everything()) == set(complete):
            break
        await asyncio.sleep(0.1)
    left = cluster.service.everything()
    mine = {name: left.pop(name) for name in complete}
    for name, client in complete.items():
        assert mine[name] == client.content, f"{name} is not what was sent"
        assert client.id in cluster.completed, f"nobody was told of {name}"
    assert left == {}, f"the sweep leaves {sorted(left)}"
    assert cluster.state.names == {}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a node that is stalled."""
    monkeypatch.setattr(locking, "PATIENCE", 0.1)
    monkeypatch.setattr(locking, "LEAST_HOLD", 0.01)


common: Any = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}


@settings(max_examples=20, derandomize=True, database=None, **common)
@given(histories)
def test_a_cluster_keeps_its_promises(history: History) -> None:
    asyncio.run(follow(history))


@pytest.mark.slow
@settings(max_examples=300, derandomize=True, database=None, **common)
@given(histories)
def test_a_cluster_keeps_its_promises_in_many_histories(history: History) -> None:
    asyncio.run(follow(history))
