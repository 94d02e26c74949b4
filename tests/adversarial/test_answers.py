"""What leaves: its framing, and files sent past the transport, in their order."""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
from typing import Any

from adversarial.conftest import Run
from adversarial.inside import answer, eventually, read_all, serving
from raw_http import content, head

CLOSE = "Connection: close"


def test_statuses_and_methods_without_content_have_none(run: Run):
    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            status = int(scope["path"][1:])
            headers = [] if status == 204 else [(b"content-length", b"7")]
            if scope["query_string"] == b"chunked":
                headers = []
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b"con", "more_body": True})
            await send({"type": "http.response.body", "body": b"tent"})

        async with serving(app) as served:
            cases = [("HEAD", "/200"), ("HEAD", "/200?chunked"), ("GET", "/204"), ("GET", "/304")]
            requests = b"".join(head(method, path) for method, path in cases)
            got = await served.ask(requests + head("GET", "/200", CLOSE))
            heads = got.split(b"\r\n\r\n")
            assert heads.pop() == b"content"
            assert len(heads) == 5
            assert not any(b"transfer-encoding" in part for part in heads)
            assert all(part.startswith(b"HTTP/1.1 ") for part in heads)

    run(main())


def test_a_file_is_sent_in_every_way_that_the_extension_allows(run: Run):
    data = content(700_000)

    def ways(file: Any) -> dict[str, list[dict[str, Any]]]:
        fd = file.fileno()
        return {
            "whole": [{"file": fd}],
            "object": [{"file": file}],
            "part": [{"file": fd, "offset": 5, "count": 600_000}],
            "parts": [
                {"file": fd, "count": 300_000, "more_body": True},
                {"file": fd, "count": 1, "more_body": True},
                {"file": fd},
            ],
            "mixed": [
                {"body": b"before", "more_body": True},
                {"file": fd, "offset": 0, "count": 9, "more_body": True},
                {"body": b"after", "more_body": True},
                {"file": fd, "offset": 9, "count": 200_000, "more_body": True},
                {"body": b"", "more_body": False},
            ],
            "nothing": [{"file": fd, "offset": 3, "count": 0}],
        }

    expected = {
        "whole": data,
        "object": data,
        "part": data[5:600_005],
        "parts": data,
        "mixed": b"before" + data[:9] + b"after" + data[9:200_009],
        "nothing": b"",
    }

    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert "http.response.zerocopysend" in scope["extensions"]
            way = scope["path"][1:]
            headers = []
            if scope["query_string"] == b"length":
                headers.append((b"content-length", b"%d" % len(expected[way])))
            with tempfile.TemporaryFile() as file:
                file.write(data)
                file.seek(0)
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                for message in ways(file)[way]:
                    kind = "zerocopysend" if "file" in message else "body"
                    await send({"type": f"http.response.{kind}", **message})

        async with serving(app) as served:
            for way, query in itertools.product(expected, ("", "?length")):
                for method in ("GET", "HEAD"):
                    got = await served.ask(head(method, f"/{way}{query}", CLOSE))
                    fields, _, body = got.partition(b"\r\n\r\n")
                    if b"chunked" in fields:
                        body = unchunked(body)
                    assert body == (expected[way] if method == "GET" else b""), (way, query)

    run(main())


def unchunked(data: bytes) -> bytes:
    parts = []
    while True:
        size, _, data = data.partition(b"\r\n")
        if not int(size, 16):
            assert data == b"\r\n"
            return b"".join(parts)
        parts.append(data[: int(size, 16)])
        assert data[int(size, 16) :][:2] == b"\r\n"
        data = data[int(size, 16) + 2 :]


def test_a_file_never_overtakes_what_the_transport_still_holds(run: Run):
    """Answers through the transport and past it in turn, to a client that is slow to read."""
    seed = random.randrange(1 << 32)
    choose = random.Random(seed)
    data = content(400_000)
    sizes = [choose.choice([1, 70_000, 400_000]) for _ in range(30)]

    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            number = int(scope["path"][1:])
            size = sizes[number]
            if number % 2:
                await answer(send, data[:size])
                return
            with tempfile.TemporaryFile() as file:
                file.write(data)
                file.flush()
                headers = [(b"content-length", b"%d" % size)]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send(
                    {
                        "type": "http.response.zerocopysend",
                        "file": file.fileno(),
                        "offset": 0,
                        "count": size,
                    }
                )

        async with serving(app) as served:
            client = served.connect(SO_RCVBUF=8192)
            requests = [head("GET", f"/{n}") for n in range(29)] + [head("GET", "/29", CLOSE)]
            client.sendall(b"".join(requests))
            await asyncio.sleep(0.1)
            got = await asyncio.to_thread(read_all, client)
            client.close()
            for size in sizes:
                fields, _, got = got.partition(b"\r\n\r\n")
                assert fields.startswith(b"HTTP/1.1 200"), seed
                assert got[:size] == data[:size], seed
                got = got[size:]
            assert not got, seed

    run(main())


def test_a_limit_of_concurrency_is_kept(run: Run):
    async def main() -> None:
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await go.wait()
            await answer(send)

        async with serving(app, limit_concurrency=3) as served:
            first = [asyncio.create_task(served.ask(head("GET", "/", CLOSE))) for _ in range(2)]
            await eventually(lambda: len(served.state.tasks) == 2)
            assert b" 503 " in await served.ask(head("GET", "/"))
            go.set()
            assert all(b" 200 " in got for got in await asyncio.gather(*first))

    run(main())
