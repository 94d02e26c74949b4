"""Clients that take any 308 for a redirection when there is a Location to follow."""

from __future__ import annotations

import io
from collections.abc import Callable

import requests

from e2e.server import ServerProcess
from raw_http import content

BODY = content(1_000_000)
STEP = 262_144
Start = Callable[..., ServerProcess]


def test_requests_sends_each_part_once(start_any: Start) -> None:
    server = start_any()
    url = f"{server.url}/files/f.bin"
    with requests.Session() as session:
        for start in range(0, len(BODY), STEP):
            piece = BODY[start : start + STEP]
            place = f"bytes {start}-{start + len(piece) - 1}/{len(BODY)}"
            reply = session.put(url, io.BytesIO(piece), headers={"Content-Range": place})
            assert reply.history == []
            assert reply.ok
            if start + STEP < len(BODY):
                assert reply.status_code == 308
                assert reply.headers["range"] == f"bytes=0-{start + STEP - 1}"
                # as the clients of a well-known cloud ask after a failure
                told = session.put(url, headers={"Content-Range": "bytes */*"})
                assert (told.status_code, told.headers["range"]) == (308, reply.headers["range"])
        assert reply.status_code == 201
        assert session.get(url).content == BODY
