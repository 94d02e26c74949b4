"""Files come and go whole whatever middleware stands between, on every server."""

from __future__ import annotations

import contextlib
import gzip
import http.client
from collections.abc import Callable, Iterator
from pathlib import Path

import brotli
import pytest

from forebay import Forebay
from forebay.http.answers import Message
from forebay.http.drain import SocketSource
from forebay.http.request_cycle import RequestCycle
from library import stacks
from library.inside import Serving, serving
from library.stacks import LITESTAR, STARLETTE, Stacks, twos
from raw_http import content

DATA = content(70_000)
TEXT = b"all work and no play\n" * 3000
LARGE = content(700_000, seed=1)
FILES = {"data": DATA, "text.txt": TEXT, "large": LARGE}
PAIRS = [("starlette", name) for name in twos(STARLETTE)]
PAIRS += [("litestar", name) for name in twos(LITESTAR)]
Headers = list[tuple[str, str]]


class Client:
    """Asks over one connection; `server` has every stack."""

    def __init__(self, server: Serving, stacked: Stacks, folder: Path) -> None:
        self._connection = http.client.HTTPConnection(*server.address, timeout=20)
        self._stacked = stacked
        self.folder = folder

    def close(self) -> None:
        self._connection.close()

    def ask(
        self,
        method: str,
        stack: tuple[str, str],
        name: str,
        body: bytes | None = None,
        **fields: str,
    ) -> tuple[int, Headers, bytes]:
        headers = {key.replace("_", "-"): value for key, value in fields.items()}
        target = f"{self._stacked.path(*stack)}/{name}"
        self._connection.request(method, target, body, headers)
        answer = self._connection.getresponse()
        return answer.status, [(k.lower(), v) for k, v in answer.getheaders()], answer.read()


def every(headers: Headers, name: str) -> list[str]:
    return [value for key, value in headers if key == name]


@contextlib.contextmanager
def stacked(folder: Path, server: str) -> Iterator[Client]:
    uploads = Forebay(folder, durability="relaxed", files_at="/files", on_conflict="replace")
    application = Stacks(uploads)
    with contextlib.ExitStack() as open_now:
        found = open_now.enter_context(serving(application, server))
        yield open_now.enter_context(contextlib.closing(Client(found, application, folder)))


@pytest.fixture(scope="module")
def on_each(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Client]]:
    with contextlib.ExitStack() as running:
        found: dict[str, Client] = {}

        def client(server: str) -> Client:
            if server not in found:
                folder = tmp_path_factory.mktemp(server)
                found[server] = running.enter_context(stacked(folder, server))
                for name, data in FILES.items():
                    (folder / name).write_bytes(data)
            found[server].close()  # it may have been idle for too long
            return found[server]

        yield client


def decoded(headers: Headers, body: bytes) -> bytes:
    coding = every(headers, "content-encoding")
    assert len(coding) <= 1
    if coding == ["gzip"]:
        return gzip.decompress(body)
    return brotli.decompress(body) if coding == ["br"] else body


def check(client: Client, stack: tuple[str, str], names: tuple[str, ...] = ("text.txt",)) -> None:
    """One stack: a file in; out whole, coded or not, in part, and its head alone."""
    status, headers, body = client.ask("PUT", stack, "in", DATA)
    assert status in (200, 201), (stack, status, body)
    assert (client.folder / "in").read_bytes() == DATA
    for name in names:
        data = FILES[name]
        for accepted in ("identity", "gzip, br"):
            status, headers, body = client.ask("GET", stack, name, accept_encoding=accepted)
            assert (status, decoded(headers, body) == data) == (200, True), (stack, name, accepted)
            assert accepted != "identity" or every(headers, "content-encoding") == []
            status, headers, body = client.ask(
                "GET", stack, name, accept_encoding=accepted, range="bytes=1000-60999"
            )
            check_part(stack, status, headers, body, data)
    status, headers, body = client.ask("HEAD", stack, "data")
    assert (status, body, every(headers, "content-length")) == (200, b"", [str(len(DATA))])


def check_part(
    stack: tuple[str, str], status: int, headers: Headers, body: bytes, data: bytes
) -> None:
    """A part as it is, or the whole, coded or not: never a part that is coded."""
    if status == 200:
        assert stack[0] == "litestar", stack  # which codes parts as well
        assert decoded(headers, body) == data
        assert every(headers, "content-range") == []
        return
    part = data[1000:61_000]
    assert (status, body == part) == (206, True), stack
    assert every(headers, "content-encoding") == []
    stop = min(61_000, len(data)) - 1
    assert every(headers, "content-range") == [f"bytes 1000-{stop}/{len(data)}"]


@pytest.mark.parametrize("half", [0, 1, 2, 3])
def test_files_come_and_go_whole_through_every_two_middlewares(
    on_each: Callable[[str], Client], half: int
):
    client = on_each("direct")
    for stack in PAIRS[half::4]:
        check(client, stack)


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn", "granian"])
def test_files_come_and_go_whole_through_every_middleware_on_other_servers(
    on_each: Callable[[str], Client], server: str
):
    client = on_each(server)
    for stack in [pair for pair in PAIRS if "+" not in pair[1]]:
        check(client, stack, ("text.txt", "data"))


def test_what_counts_bytes_is_given_all_of_them(on_each: Callable[[str], Client]):
    client = on_each("direct")
    stacks.COUNTED.clear()
    client.ask("PUT", ("starlette", "counting"), "in", LARGE)
    client.ask("GET", ("starlette", "counting"), "large")
    client.ask("PUT", ("starlette", "base + counting"), "in", LARGE)
    client.ask("GET", ("starlette", "cors + counting"), "large")
    client.ask("HEAD", ("starlette", "counting"), "large")  # the count comes after the answer
    assert [len(LARGE)] * 4 == stacks.COUNTED


QUICK_IN = {"", "base", "cors", "errors", "exceptions", "gzip", "hosts", "cors + errors"}
QUICK_OUT = {"", "cors", "errors", "exceptions", "hosts", "cors + errors"}
SLOW = {"counting", "base that reads", "body limit", "base that reads + base", "cors + counting"}


@pytest.mark.parametrize("name", sorted(QUICK_IN | QUICK_OUT | SLOW))
def test_the_quick_ways_are_taken_only_past_what_is_known_not_to_mind(
    on_each: Callable[[str], Client], name: str, monkeypatch: pytest.MonkeyPatch
):
    """Otherwise a change in a framework would make every transfer slow, and nobody would know."""
    client = on_each("direct")
    if ("starlette", name) not in PAIRS:
        pytest.skip(f"this Starlette has no {name}")
    ways: list[str] = []

    def noting(owner: type, method: str, way: str) -> None:
        original = getattr(owner, method)

        def noted(self: object, *args: object) -> object:
            ways.append(way)
            return original(self, *args)

        monkeypatch.setattr(owner, method, noted)

    noting(SocketSource, "__init__", "in")
    noting(RequestCycle, "_send_file", "out")
    client.ask("PUT", ("starlette", name), "in", LARGE)
    client.ask("GET", ("starlette", name), "large")
    expected = [way for way, names in (("in", QUICK_IN), ("out", QUICK_OUT)) if name in names]
    assert ways == expected


def test_the_quick_way_out_is_taken_in_litestar_too(
    on_each: Callable[[str], Client], monkeypatch: pytest.MonkeyPatch
):
    client = on_each("direct")
    sent: list[object] = []
    original = RequestCycle._send_file

    async def noted(self: RequestCycle, message: Message) -> None:
        sent.append(message)
        await original(self, message)

    monkeypatch.setattr(RequestCycle, "_send_file", noted)
    client.ask("GET", ("litestar", ""), "large", origin="https://example.com")
    assert len(sent) == 1
