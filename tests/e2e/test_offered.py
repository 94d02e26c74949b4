"""What is advertised of resumable uploads, and what is refused, follows from the store alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from forebay.config import Settings
from forebay.engine.engine import Engine
from forebay.engine.offered import offered_by
from forebay.errors import ConfigError
from forebay.http.app import ServerApp
from forebay.model import NOTHING_OFFERED, Offered
from forebay.protocol.names import numbered
from forebay.sessions.memory import MemorySessions
from forebay.stores.memory import MemoryStore

Fields = list[tuple[bytes, bytes]]
TUS = (b"tus-resumable", b"1.0.0")
LENGTH = (b"upload-length", b"5")
STREAM = (b"content-type", b"application/offset+octet-stream")
SHA1 = (b"upload-checksum", b"sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00=")
COMPLETE = (b"upload-complete", b"?0")


class Unresumable(MemoryStore):
    """Data goes with its request."""

    begin = None  # type: ignore[assignment]
    resume = None  # type: ignore[assignment]


class Unsweepable(MemoryStore):
    """What is left over is removed by somebody else."""

    remains = None  # type: ignore[assignment]


class Asked:
    """One answer: fields as a list, as each must come once."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.status: int = messages[0]["status"]
        self.fields: Fields = list(messages[0]["headers"])
        self.body = b"".join(message.get("body", b"") for message in messages)

    def every(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key == name]

    @property
    def code(self) -> str:
        code: str = json.loads(self.body)["code"]
        return code


class Served:
    def __init__(self, app: Any) -> None:
        self._app = app

    async def ask(
        self, method: str, path: str, fields: Iterable[tuple[bytes, bytes]] = (), body: bytes = b""
    ) -> Asked:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        length = [(b"content-length", b"%d" % len(body))] if body else []
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"localhost"), *length, *fields],
        }
        await self._app(scope, receive, send)
        return Asked(sent)


def served(run: Any, store: Any, test: Any, offered: Offered | None = None) -> None:
    async def main() -> None:
        engine = Engine(Settings(dir="unused", min_free=0, retention=60.0), store)
        if offered_by(store).resumable:
            await engine.open_uploads(MemorySessions())
        else:
            with pytest.raises(ConfigError):
                await engine.open_uploads(MemorySessions())
        if offered is not None:
            engine.state._offered = offered
        try:
            await test(Served(ServerApp(engine, listening_on_loopback=True)))
        finally:
            await engine.close_uploads()
            engine.close()

    run(main())


@pytest.fixture
def run() -> Any:
    return asyncio.run


def test_a_store_offers_what_its_protocols_say(tmp_path: Path):
    assert offered_by(MemoryStore(numbered=numbered)) == Offered()
    assert offered_by(Unresumable(numbered=numbered)) == NOTHING_OFFERED
    assert offered_by(Unsweepable(numbered=numbered)) == Offered(expiration=False)


def test_all_is_advertised_by_a_store_that_can_do_all(run: Any):
    async def test(server: Served) -> None:
        answer = await server.ask("OPTIONS", "/uploads/")
        assert answer.every(b"tus-extension") == [
            b"creation,creation-defer-length,creation-with-upload,expiration,checksum,termination,"
            b"concatenation,concatenation-unfinished"
        ]
        assert answer.every(b"upload-limit") == [b"max-age=60"]

    served(run, MemoryStore(numbered=numbered), test)


def test_a_store_that_keeps_nothing_beyond_a_request_offers_no_resumable_upload(run: Any):
    async def test(server: Served) -> None:
        for path in ("/uploads/", "/files/", "*"):
            answer = await server.ask("OPTIONS", path)
            names = {name for name, _ in answer.fields}
            resumable = {b"tus-resumable", b"tus-extension", b"tus-version", b"upload-limit"}
            assert not names & resumable, path
        for fields in ([TUS, LENGTH], [COMPLETE]):
            answer = await server.ask("POST", "/uploads/", fields)
            assert (answer.status, answer.code) == (501, "FB_NOT_OFFERED")
        answer = await server.ask("POST", "/files/", [TUS, LENGTH])
        assert (answer.status, answer.code) == (400, "FB_INVALID_REQUEST")
        answer = await server.ask("PUT", "/files/a", [(b"content-range", b"bytes 0-4/9")], b"12345")
        assert (answer.status, answer.code) == (501, "FB_NOT_OFFERED")
        assert (await server.ask("PATCH", "/files/a")).every(b"allow") == [
            b"GET, HEAD, PUT, OPTIONS"
        ]
        answer = await server.ask("PUT", "/files/a", body=b"12345")
        assert answer.status == 201, "what needs no state is taken as ever"

    served(run, Unresumable(numbered=numbered), test)


def test_no_expiration_is_promised_where_nothing_is_swept(run: Any):
    async def test(server: Served) -> None:
        answer = await server.ask("OPTIONS", "/uploads/")
        assert b"expiration" not in answer.every(b"tus-extension")[0].split(b",")
        assert answer.every(b"upload-limit") == [b"min-size=0"]

    served(run, Unsweepable(numbered=numbered), test)


def test_what_is_not_offered_is_not_advertised_and_refused(run: Any):
    async def test(server: Served) -> None:
        answer = await server.ask("OPTIONS", "/uploads/")
        assert answer.every(b"tus-extension") == [
            b"creation,creation-defer-length,creation-with-upload,expiration"
        ]
        assert answer.every(b"tus-checksum-algorithm") == []
        part = await server.ask("POST", "/uploads/", [TUS, LENGTH, (b"upload-concat", b"partial")])
        assert (part.status, part.code) == (400, "FB_INVALID_FIELD")
        assert b"Upload-Concat is not offered here" in part.body
        made = await server.ask("POST", "/uploads/", [TUS, LENGTH])
        path = made.every(b"location")[0].decode()
        fields = [TUS, STREAM, (b"upload-offset", b"0")]
        trailer = (b"trailer", b"Upload-Checksum")
        for checksum in (SHA1, trailer):
            answer = await server.ask("PATCH", path, [*fields, checksum], b"hello")
            assert (answer.status, answer.code) == (400, "FB_INVALID_FIELD")
            assert b"Upload-Checksum is not offered here" in answer.body
        for sent in ([TUS], []):
            answer = await server.ask("DELETE", path, sent)
            assert (answer.status, answer.code) == (405, "FB_METHOD_NOT_ALLOWED")
            assert answer.every(b"allow") == [b"GET, HEAD, PATCH, OPTIONS"]
        assert (await server.ask("OPTIONS", path)).every(b"allow") == [
            b"GET, HEAD, PATCH, OPTIONS, PUT"
        ]
        answer = await server.ask("PATCH", path, fields, b"hello")
        assert answer.every(b"upload-offset") == [b"5"]

    lacking = Offered(checksum=False, concatenation=False, termination=False)
    served(run, MemoryStore(numbered=numbered), test, lacking)
