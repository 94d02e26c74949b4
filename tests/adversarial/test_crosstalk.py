"""Bytes of one client never reach another's file, nor another's download."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adversarial.traffic import clients
from e2e.server import ServerProcess
from e2e.shells import AnyServer
from waiting import wait_for

CONNECTIONS = 64
UPLOADS = 12


class OnAsyncio(AnyServer):
    """Our protocol class and application on asyncio's own loop."""

    def command(self, *options: str) -> list[str]:
        ours = ["--loop", "asyncio", "--http", "forebay.http.direct:DirectProtocol"]
        uvicorn = [sys.executable, "-m", "uvicorn", "--port", "0", "--no-access-log"]
        # Its default of 5 s can pass while all clients share one busy thread.
        patient = ["--timeout-keep-alive", "120"]
        return [*uvicorn, *patient, *ours, "e2e.asgi_app:app"]


@pytest.fixture(params=["uvloop", "asyncio"])
def server(
    request: pytest.FixtureRequest, start_server: Callable[..., ServerProcess], store_folder: Path
) -> Iterator[ServerProcess]:
    options = ["--durability", "relaxed"]
    if request.param == "uvloop":
        yield start_server(*options)
        return
    server = OnAsyncio(store_folder, *options)
    yield server
    server.kill()


def test_every_byte_is_its_own_clients_under_mixed_traffic_and_aborts(server: ServerProcess):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    everybody = list(clients(server.host, server.port, CONNECTIONS, seed))

    async def main() -> None:
        await asyncio.gather(*(client.run(UPLOADS) for client in everybody))

    asyncio.run(main())
    published = server.published()
    # One that was broken off after its last byte is whole, and may be there.
    certain = {name for client in everybody for name in client.stored}
    assert certain <= set(published)
    for client in everybody:
        for name in (client.stored.keys() | client.broken) & set(published):
            client.stored.setdefault(name, int(name.partition("-")[2]))
            assert client.is_own(name, (server.folder / name).read_bytes()), (seed, name)
    assert set(published) <= certain | {name for client in everybody for name in client.broken}
    # Those that broke off last may be tidied away after the last answer.
    wait_for(lambda: server.leftovers() == [])
