"""Many clients on one upload: it goes on all the same."""

from __future__ import annotations

import threading
from collections.abc import Callable

from e2e.server import ServerProcess
from raw_http import content
from tus.client import create, head, patch

MiB = 1 << 20


def test_an_upload_that_twenty_clients_send_at_once_comes_to_its_end(
    start_server: Callable[..., ServerProcess],
) -> None:
    """Bug: each one's HEAD ended the PATCH of another before its first byte, for ever."""
    server = start_server("--durability", "relaxed")
    data = content(5 * MiB)
    path = create(server, len(data))
    failed: list[BaseException] = []

    def client() -> None:
        try:
            while (offset := int(head(server, path).fields.get("upload-offset", 0))) < len(data):
                patch(server, path, offset, data[offset : offset + MiB])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=client, daemon=True) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert failed == []
    assert list(server.published().values()) == [len(data)]
