"""No answer that leaves our server has a field twice, whoever set it (invariant 18)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from adversarial.inside import Served, answer, serving
from forebay import Access, Forebay
from forebay.backends import make_store
from forebay.config import load
from forebay.engine.engine import Engine
from forebay.http import cors
from forebay.http.app import ServerApp
from forebay.http.cors import WrongAnswer

PAGE = "https://app.example"
GET = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example\r\nConnection: close\r\n\r\n"
)


def application(*fields: tuple[bytes, bytes]) -> Callable[..., Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"ok", 200, *fields)

    return app


def lines_of(response: bytes) -> list[bytes]:
    return sorted(response.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")[1:])


def named(lines: list[bytes], name: bytes) -> list[bytes]:
    return [line for line in lines if line.startswith(name + b":")]


def asked(run: Any, app: Any, monkeypatch: Any = None, **options: Any) -> list[bytes]:
    async def main() -> bytes:
        served: Served
        async with serving(app, **options) as served:
            # What uvicorn's server does once a second.
            own = [(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")]
            served.state.default_headers = own + served.config.encoded_headers
            return await served.ask(GET)

    return lines_of(run(main()))


def test_an_application_s_own_date_and_server_replace_the_server_s(run: Any) -> None:
    lines = asked(run, application((b"Date", b"mine"), (b"SERVER", b"mine too")))
    assert named(lines, b"date") == [b"date: mine"]
    assert named(lines, b"server") == [b"server: mine too"]
    lines = asked(run, application())
    assert named(lines, b"date") == [b"date: thu, 01 jan 1970 00:00:00 gmt"]
    assert named(lines, b"server") == [b"server: uvicorn"]


def test_what_uvicorn_adds_to_each_answer_gives_way_to_an_application_s_own(run: Any) -> None:
    headers = [("X-Frame-Options", "DENY"), ("Set-Cookie", "a=1")]
    app = application((b"x-frame-options", b"SAMEORIGIN"), (b"set-cookie", b"b=2"))
    lines = asked(run, app, headers=headers)
    assert named(lines, b"x-frame-options") == [b"x-frame-options: sameorigin"]
    assert named(lines, b"set-cookie") == [b"set-cookie: a=1", b"set-cookie: b=2"]


def test_a_length_that_is_repeated_is_sent_once(run: Any) -> None:
    lines = asked(run, application((b"Content-Length", b"2"), (b"transfer-encoding", b"chunked")))
    assert named(lines, b"content-length") == [b"content-length: 2"]
    assert named(lines, b"transfer-encoding") == []


def test_two_lengths_that_differ_are_no_answer(run: Any) -> None:
    assert asked(run, application((b"content-length", b"3"))) == []


def test_a_field_sent_twice_fails_in_tests_and_passes_in_production(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = application((b"x-mine", b"1"), (b"X-Mine", b"2"), (b"vary", b"a"), (b"vary", b"b"))
    assert asked(run, app) == []
    monkeypatch.setattr(cors, "CHECKED", False)
    lines = asked(run, app)
    assert named(lines, b"x-mine") == [b"x-mine: 1", b"x-mine: 2"]
    assert named(lines, b"vary") == [b"vary: a", b"vary: b"]


@pytest.mark.parametrize(
    "fields",
    [
        [(b"location", b"/a"), (b"location", b"/b")],
        [(b"access-control-allow-origin", b"*")],
        [(b"x-unheard-of", b"1")],  # neither exposed to pages nor known as not for them
    ],
)
def test_an_answer_of_ours_that_pages_cannot_read_well_fails_in_tests(
    run: Any, fields: list[tuple[bytes, bytes]]
) -> None:
    async def send(message: Any) -> None:
        pytest.fail("it left")

    leaving = cors.CorsSend(send, [(b"origin", PAGE.encode())], [PAGE])
    start = {"type": "http.response.start", "status": 200, "headers": fields}
    with pytest.raises(WrongAnswer):
        run(leaving(start))


def test_an_internal_error_of_the_server_is_answered_to_the_page(run: Any, tmp_path: Any) -> None:
    settings = load({"dir": str(tmp_path), "allow_origin": (PAGE,)}, {}, str(tmp_path)).settings
    store = make_store(settings)
    engine = Engine(settings, store)

    async def broken() -> str:
        raise ValueError("a fault of ours")

    engine.why_not_ready = broken  # type: ignore[method-assign,assignment]
    app = ServerApp(engine, listening_on_loopback=True)
    request = GET.replace(b"GET / ", b"GET /readyz ")

    async def main() -> bytes:
        async with serving(app) as served:
            return await served.ask(request)

    try:
        response = run(main())
    finally:
        engine.close()
        store.close()
    assert response.startswith(b"HTTP/1.1 500 ") and b"FB_INTERNAL" in response
    assert named(lines_of(response), b"access-control-allow-origin") == [
        b"access-control-allow-origin: https://app.example"
    ]


@pytest.mark.parametrize("around", [[PAGE], ["*"]])
def test_an_application_s_own_cors_middleware_adds_nothing_twice(
    run: Any, tmp_path: Any, around: list[str]
) -> None:
    def authorise(access: Access) -> bool:
        if access.name == "fault":
            raise ValueError("a fault of the application")
        return access.name != "secret"

    uploads = Forebay(tmp_path, authorise=authorise, allow_origin=[PAGE], durability="relaxed")
    app = FastAPI(lifespan=uploads.lifespan)
    app.mount("/files", uploads.files)
    app.mount("/uploads", uploads.resumable)
    app.add_middleware(CORSMiddleware, allow_origins=around, allow_credentials=True)
    page = {"Origin": PAGE}

    async def main() -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            uploads.lifespan(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            await ask_all(client)

    async def ask_all(client: httpx.AsyncClient) -> None:
        for method, target, status in (
            ("PUT", "/files/a.bin", 201),
            ("PUT", "/files/a.bin", 409),
            ("PUT", "/files/secret", 403),
            ("PUT", "/files/fault", 500),
            ("GET", "/files/a.bin", 200),
            ("PATCH", "/uploads/x", 404),
        ):
            got = await client.request(method, target, headers=page, content=b"")
            allowed = [
                v for k, v in got.headers.multi_items() if k == "access-control-allow-origin"
            ]
            assert (got.status_code, allowed) == (status, [PAGE]), (method, target)

    run(main())


def test_what_is_refused_in_front_of_a_framework_can_be_read_by_the_page(
    run: Any, tmp_path: Any
) -> None:
    uploads = Forebay(tmp_path, allow_origin=[PAGE], max_size=10, durability="relaxed")
    app = uploads.in_front_of(application(), {"/videos": uploads.wish("in/")})

    async def main() -> None:
        transport = httpx.ASGITransport(app)
        async with (
            uploads.lifespan(),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            for size, status, allowed in ((5, 200, []), (50, 413, [PAGE])):
                got = await client.post("/videos", headers={"Origin": PAGE}, content=b"x" * size)
                found = got.headers.multi_items()
                assert got.status_code == status
                assert [v for k, v in found if k == "access-control-allow-origin"] == allowed

    run(main())


def test_a_server_that_is_full_says_so_to_the_page(run: Any, tmp_path: Any) -> None:
    uploads = Forebay(tmp_path, allow_origin=[PAGE])
    lines = asked(run, application(), limit_concurrency=1)
    uploads.close()
    assert b"access-control-allow-origin: https://app.example" in lines
    assert len(named(lines, b"access-control-allow-credentials")) == 1
