"""One connection and an application that does what it should not, or not what it should."""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
import ssl
import weakref
from pathlib import Path
from typing import Any

import pytest

from adversarial.conftest import Run
from adversarial.inside import answer, eventually, read_all, serving
from certificates import self_signed
from forebay.engine.transfer.pump import BodyWriter, pump
from forebay.engine.transfer.workers import Workers
from forebay.errors import UploadError
from forebay.http.limits import ConnectionLimits
from raw_http import RESET, chunked, content, head

MiB = 1 << 20
CHUNKED = "Transfer-Encoding: chunked"
CLOSE = "Connection: close"


class Sink:
    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: memoryview, offset: int) -> None:
        self.data[offset:] = data

    def reserve(self, size: int) -> None:
        return None


async def drain(scope: Any, workers: Workers, sink: Sink) -> str:
    """Takes the body past the application; how that ended."""
    source = scope["extensions"]["forebay.request_cycle"].body.source()
    if source is None:
        return "no source"
    try:
        await pump(source, BodyWriter(sink), workers)
    except UploadError as error:
        return error.code
    return "whole"


# --- two who read --------------------------------------------------------------------------------


def test_who_waits_in_receive_takes_nothing_from_a_drain(run: Run):
    data = content(MiB)

    async def main() -> None:
        workers, sink = Workers(2), Sink()
        begun = asyncio.Event()
        watched = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def watch() -> None:
                await begun.wait()
                watched.append((await receive())["type"])

            watching = asyncio.create_task(watch())
            how = await drain(scope, workers, sink)
            await answer(send, how.encode())
            await watching

        async with serving(app) as served, served.client() as client:
            chunk = b"%x\r\n" % len(data) + data[:1000]
            client.writer.write(head("PUT", "/", CHUNKED, CLOSE) + chunk)
            await eventually(lambda: len(sink.data) == 1000)
            begun.set()
            for start in range(1000, len(data), 9973):
                client.writer.write(data[start : start + 9973])
                await asyncio.sleep(0)
            client.writer.write(b"\r\n0\r\n\r\n")
            assert (await client.read_all()).endswith(b"\r\n\r\nwhole")
        assert sink.data == data
        assert watched == ["http.disconnect"]
        workers.close()

    run(main())


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_receive_that_was_given_up_takes_nothing_from_who_comes_after_it(run: Run, framing: str):
    """Else the body's beginning would be gone, and a chunked one would be stored without it."""
    data = content(300_000)

    async def main() -> None:
        workers, sink = Workers(2), Sink()
        given_up, sent = asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await receive()
            given_up.set()
            await sent.wait()
            how = await drain(scope, workers, sink)
            if how == "no source":
                more = True
                while more:
                    message = await receive()
                    sink.data += message["body"]
                    more = message["more_body"]
            await answer(send)

        fields = (CHUNKED,) if framing == "chunked" else ()
        async with serving(app) as served, served.client() as client:
            size = None if fields else len(data)
            client.writer.write(head("PUT", "/", CLOSE, *fields, length=size))
            await given_up.wait()
            body = chunked([data]) if fields else data
            client.writer.write(body[:100_000])
            await asyncio.sleep(0.05)
            sent.set()
            client.writer.write(body[100_000:])
            assert b" 200 " in await client.read_all()
        assert sink.data == data
        workers.close()

    run(main())


def test_a_drain_that_was_made_before_receive_read_gets_an_error_and_no_part(run: Run):
    async def main() -> None:
        workers = Workers(2)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            source = scope["extensions"]["forebay.request_cycle"].body.source()
            message = await receive()
            assert message["body"]
            assert source.take_whole() is None
            try:
                await pump(source, BodyWriter(Sink()), workers)
            except UploadError as error:
                await answer(send, error.code.encode())

        async with serving(app) as served:
            got = await served.ask(head("PUT", "/", CHUNKED, CLOSE) + chunked([b"abc", b"def"]))
            assert got.endswith(b"FB_INCOMPLETE_BODY"), got
        workers.close()

    run(main())


def test_one_of_two_receives_given_up_leaves_the_other_its_message(run: Run):
    async def main() -> None:
        ready = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            first = asyncio.create_task(receive())
            second = asyncio.create_task(receive())
            await asyncio.sleep(0)
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
            ready.set()
            await answer(send, (await first)["body"])

        async with serving(app) as served, served.client() as client:
            client.writer.write(head("PUT", "/", CLOSE, length=3))
            await ready.wait()
            client.writer.write(b"abc")
            assert (await asyncio.wait_for(client.read_all(), 20)).endswith(b"\r\n\r\nabc")

    run(main())


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_answer_while_a_task_still_drains_ends_the_drain_and_the_connection(
    run: Run, framing: str
):
    """Two would read from the socket: the body would have a hole, and be stored."""

    async def main() -> None:
        workers, sink, ends = Workers(2), Sink(), []
        tasks = set()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def read() -> None:
                ends.append(await drain(scope, workers, sink))

            task = asyncio.create_task(read())
            tasks.add(task)
            await eventually(lambda: len(sink.data) > 0)
            await answer(send)

        size = 2 * MiB
        fields = (CHUNKED,) if framing == "chunked" else ()
        async with serving(app) as served:
            client = served.connect()
            first = head("PUT", "/", *fields, length=None if fields else size)
            start = b"%x\r\n" % size if fields else b""
            await asyncio.to_thread(client.sendall, first + start + bytes(100_000))
            await eventually(lambda: bool(ends))
            await asyncio.to_thread(client.sendall, bytes(size))
            got = await asyncio.to_thread(read_all, client)
            assert b"connection: close" in got
            assert ends == ["FB_INCOMPLETE_BODY"]
            client.close()
            assert await served.idle()
        workers.close()

    run(main())


def test_a_task_that_outlives_its_request_takes_nothing_of_the_next_one(run: Run):
    async def main() -> None:
        workers, sink, ends = Workers(2), Sink(), []
        go = asyncio.Event()
        tasks = set()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/second":
                go.set()
                await eventually(lambda: bool(ends))
                await answer(send, (await receive())["body"])
                return
            source = scope["extensions"]["forebay.request_cycle"].body.source()

            async def read() -> None:
                await go.wait()
                try:
                    await pump(source, BodyWriter(sink), workers)
                except UploadError as error:
                    ends.append(error.code)
                else:
                    ends.append("whole")

            tasks.add(asyncio.create_task(read()))
            await answer(send)

        async with serving(app) as served:
            first = head("PUT", "/first", length=5) + b"first"
            second = head("PUT", "/second", CLOSE, length=6) + b"second"
            got = await served.ask(first + second)
            assert got.endswith(b"\r\n\r\nsecond")
        assert ends == ["FB_INCOMPLETE_BODY"]
        assert not sink.data
        workers.close()

    run(main())


# --- ends ----------------------------------------------------------------------------------------


def test_a_cancelled_application_does_not_leave_its_client_waiting(run: Run):
    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/begun":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
            raise asyncio.CancelledError

        async with serving(app) as served:
            for path in ("/", "/begun"):
                client = served.connect()
                client.sendall(head("GET", path))
                try:
                    got = await asyncio.to_thread(read_all, client)
                except ConnectionResetError:
                    got = b""
                assert not got.endswith(b"0\r\n\r\n")
                client.close()
            assert await served.idle()

    run(main())


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("before", ["get", "receive", "drain"])
def test_an_application_that_waits_for_the_client_to_leave_is_told(run: Run, how: str, before: str):
    async def main() -> None:
        workers = Workers(1)
        waiting, told = asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if before == "drain":
                assert await drain(scope, workers, Sink()) == "whole"
            while True:
                asyncio.get_running_loop().call_later(0.02, waiting.set)
                if (await receive())["type"] == "http.disconnect":
                    break
            told.set()

        async with serving(app) as served:
            client = served.connect()
            size = 0 if before == "get" else MiB
            sending = head("PUT", "/", length=size) + bytes(size)
            await asyncio.to_thread(client.sendall, sending)
            await waiting.wait()
            if how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
            await asyncio.wait_for(told.wait(), 20)
        workers.close()

    run(main())


def test_a_client_that_half_closed_gets_its_answer_also_from_who_waits_for_it_to_leave(run: Run):
    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            await answer(send)

        async with serving(app) as served:
            got = await served.ask(head("GET", "/"), half_close=True)
            assert got.endswith(b"\r\n\r\nok")

    run(main())


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, str]:
    key, certificate = self_signed(tmp_path)
    return {"ssl_keyfile": str(key), "ssl_certfile": str(certificate)}


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("end", ["goes on", "close"])
def test_a_client_that_takes_nothing_is_given_up(
    run: Run, end: str, tls: bool, certificate: dict[str, str]
):
    """Both while the application still sends, and when all that is left is to flush."""

    async def main() -> None:
        ended = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if end == "close":
                await answer(send, bytes(16 * MiB), 200, (b"connection", b"close"))
            else:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                for _ in range(10_000):
                    body = {"body": bytes(64 << 10), "more_body": True}
                    await send({"type": "http.response.body", **body})
                    if scope["extensions"]["forebay.request_cycle"].body.disconnected:
                        break
            ended.append(end)

        options = certificate if tls else {}
        async with serving(app, ConnectionLimits(send_timeout=0.3), **options) as served:
            with served.connect(SO_RCVBUF=4096) as client:
                if tls:
                    anybody = ssl._create_unverified_context()
                    client = await asyncio.to_thread(anybody.wrap_socket, client)
                await asyncio.to_thread(client.sendall, head("GET", "/"))
                assert await eventually(lambda: bool(ended))
                assert await served.idle()
                client.close()

    run(main())


def test_a_client_that_takes_little_at_a_time_gets_it_all(run: Run):
    size = 6 * MiB

    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(size >> 16):
                await send(
                    {"type": "http.response.body", "body": bytes(1 << 16), "more_body": True}
                )
            await send({"type": "http.response.body"})

        async with serving(app, ConnectionLimits(send_timeout=0.5)) as served:
            with served.connect() as client:
                client.sendall(head("GET", "/", CLOSE))
                got, loop = 0, asyncio.get_running_loop()
                begun = loop.time()
                while data := await asyncio.to_thread(client.recv, 128 << 10):
                    got += len(data)
                    if loop.time() - begun < 1.5:  # for several times the server's patience
                        await asyncio.sleep(0.1)
                assert got > size

    run(main())


def test_a_drain_of_the_server_ends_a_connection_that_skips_a_rest(run: Run):
    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await answer(send)

        async with serving(app) as served:
            async with served.client() as client:
                client.writer.write(head("PUT", "/", length=1000) + bytes(500))
                assert (await client.response()).body == b"ok"
                for connection in list(served.state.connections):
                    connection.shutdown()
                client.writer.write(bytes(500))
                assert await asyncio.wait_for(client.read_all(), 20) == b""
            assert await served.idle()

    run(main())


def test_an_answer_is_not_reset_away_when_more_requests_were_on_their_way(run: Run):
    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await answer(send, bytes(200_000), 200, (b"connection", b"close"))

        async with serving(app) as served:
            client = served.connect()
            client.sendall(head("GET", "/") * 2000)
            await asyncio.sleep(0.1)
            with_more = asyncio.to_thread(client.sendall, head("GET", "/") * 2000)
            await asyncio.gather(with_more, return_exceptions=True)
            assert (await asyncio.to_thread(read_all, client)).count(bytes(200_000)) == 1
            client.close()

    run(main())


# --- what stays ----------------------------------------------------------------------------------


def test_a_connection_and_its_requests_are_gone_without_a_collection(run: Run):
    requests = [
        b"",
        b"GET ",
        b"GET /\r\nnonsense\r\n\r\n",
        head("GET", "/"),
        head("GET", "/", CLOSE),
        head("PUT", "/", length=5) + b"hello" + head("GET", "/"),
        head("PUT", "/", length=5) + b"he",
        head("PUT", "/drain", length=MiB) + bytes(MiB),
        head("PUT", "/drain", CHUNKED) + b"5\r\nhe",
        head("PUT", "/drain", CHUNKED) + b"!",
        head("PUT", "/", length=MiB) + bytes(1000),
        head("PUT", "/", CHUNKED) + b"!",
    ]

    async def main() -> None:
        workers = Workers(2)
        cycles: weakref.WeakSet[Any] = weakref.WeakSet()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            cycles.add(scope["extensions"]["forebay.request_cycle"])
            if scope["path"] == "/drain":
                await answer(send, (await drain(scope, workers, Sink())).encode())
                return
            while (await receive()).get("more_body"):
                pass
            await answer(send)

        async with serving(app) as served:
            gc.collect()
            gc.disable()
            try:
                # A half-closed client must hear of the end too, else its connection stays for ever.
                for request, how in itertools.product(requests, ("close", "half-close", "reset")):
                    client = served.connect()
                    await asyncio.to_thread(client.sendall, request)
                    await asyncio.sleep(0.01)
                    if how == "half-close":
                        client.shutdown(socket.SHUT_WR)
                        await asyncio.to_thread(client.recv, MiB)
                    elif how == "reset":
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    client.close()
                assert await served.idle()
                await asyncio.sleep(0.02)
                stopped = sum("broken" in repr(e) for e in cycles)
                assert (len(served.alive), len(cycles) - stopped) == (0, 0)
            finally:
                gc.enable()
        workers.close()

    run(main())
