"""Links are right wherever the applications are mounted, and whatever stands in front."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount, Router

from forebay.library.mounts import Places, find_mount, split_at_mount
from library.conftest import Start
from raw_http import RawClient, head

DRAFT = {"Upload-Draft-Interop-Version": "8"}
TUS = {"Tus-Resumable": "1.0.0"}


async def target(scope: Any, receive: Any, send: Any) -> None: ...


async def passing(request: Any, call_next: Any) -> Any:
    return await call_next(request)


PASSING = Middleware(BaseHTTPMiddleware, dispatch=passing)


@pytest.mark.parametrize(
    ("app", "path"),
    [
        (Starlette(routes=[Mount("/files", target)]), "/files"),
        (Starlette(routes=[Mount("/a/b/", target)]), "/a/b"),
        (Starlette(routes=[Mount("/a", routes=[Mount("/b", target)])]), "/a/b"),
        (Starlette(routes=[Mount("/a", Starlette(routes=[Mount("/b", target)]))]), "/a/b"),
        (Starlette(routes=[Mount("/a", Router([Mount("/b", target)]))]), "/a/b"),
        (
            Starlette(
                routes=[
                    Mount(
                        "/f", target, middleware=[Middleware(BaseHTTPMiddleware, dispatch=passing)]
                    )
                ]
            ),
            "/f",
        ),
        (Starlette(routes=[Mount("", target)]), ""),
        (Starlette(routes=[Mount("/{tenant}/files", target)]), None),
        (Starlette(routes=[Mount("/other", Router())]), None),
        (object(), None),
    ],
)
def test_a_mount_is_found_in_the_routes(app: object, path: str | None):
    assert find_mount(app, target) == path


@pytest.mark.parametrize(
    ("scope", "own", "mount", "below"),
    [
        # Starlette: the path keeps the mount, which is in root_path as well.
        (
            {"root_path": "/files", "path": "/files/a", "raw_path": b"/files/a"},
            None,
            "/files",
            b"/a",
        ),
        # behind a proxy that keeps the path
        (
            {
                "root_path": "/api/files",
                "app_root_path": "/api",
                "path": "/api/files/a",
                "raw_path": b"/api/files/a",
            },
            "/files",
            "/api/files",
            b"/a",
        ),
        # behind a proxy that takes /api away, FastAPI(root_path="/api")
        (
            {
                "root_path": "/api/files",
                "app_root_path": "/api",
                "path": "/files/a",
                "raw_path": b"/files/a",
            },
            None,
            "/api/files",
            b"/a",
        ),
        # Litestar: the mount is taken away from the path, and a slash added
        ({"root_path": "", "path": "/a/", "raw_path": b"/files/a"}, None, "/files", b"/a"),
        ({"root_path": "", "path": "/", "raw_path": b"/files"}, None, "/files", b"/"),
        ({"root_path": "", "path": "/a/", "raw_path": b"/files/a"}, "/files", "/files", b"/a"),
        # escapes are kept below, and understood in the mount
        (
            {"root_path": "/my files", "path": "/my files/a b", "raw_path": b"/my%20files/a%20b"},
            None,
            "/my files",
            b"/a%20b",
        ),
        # an escaped slash is not one of the mount
        ({"root_path": "/f", "path": "/f/a/b", "raw_path": b"/f/a%2Fb"}, None, "/f", b"/a%2Fb"),
        # no raw_path, and no mount at all
        ({"root_path": "/f", "path": "/f/a b"}, None, "/f", b"/a%20b"),
        ({"root_path": "", "path": "/a", "raw_path": b"/a"}, None, "", b"/a"),
        ({"path": "/a", "raw_path": b"/a?x=1"}, None, "", b"/a"),
    ],
)
def test_a_path_is_split_at_its_mount(scope: Any, own: str | None, mount: str, below: bytes):
    assert split_at_mount(scope, own) == (mount, below)


def test_what_is_not_known_is_not_linked_to():
    from forebay.library.mounts import Mounted

    places = Places(None, None)
    seen: list[dict[str, Any]] = []

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    places.files = Mounted(serve, places)
    places.resumable = Mounted(serve, places)
    scope = {"type": "http", "root_path": "/f", "path": "/f/a", "raw_path": b"/f/a"}
    asyncio.run(places.files(scope, None, None))  # type: ignore[arg-type]
    assert seen[0]["forebay.files"] == "/f"
    assert "forebay.uploads" not in seen[0]


def begin(url: str, path: str, **headers: str) -> httpx.Response:
    return httpx.put(
        url + path, content=b"first ", headers={**DRAFT, "Upload-Complete": "?0", **headers}
    )


def end(url: str, location: str) -> httpx.Response:
    kind = {"Content-Type": "application/partial-upload", "Upload-Offset": "6"}
    headers = {**DRAFT, **kind, "Upload-Complete": "?1"}
    return httpx.patch(url + location, content=b"second", headers=headers)


def test_the_location_is_where_the_other_application_is_mounted(application: Start, server: str):
    app = application("library.odd_app:app", server)
    begun = begin(app.url, "/files/linked.bin")
    assert begun.status_code == 201
    assert begun.headers["location"].startswith("/way/down/resumable/")
    done = end(app.url, begun.headers["location"])
    assert done.status_code == 201
    assert done.headers["location"] == "/files/linked.bin"
    assert (app.folder / "linked.bin").read_bytes() == b"first second"
    (app.folder / "linked.bin").unlink()


@pytest.mark.parametrize("taken_away", [True, False])
def test_links_hold_behind_a_proxy_with_a_prefix(application: Start, server: str, taken_away: bool):
    """The proxy takes `/api` away before the request comes here, or leaves that to the server."""
    if taken_away:
        app = application("library.prefixed_app:app", server)
    else:
        app = application("library.odd_app:app", server, "--root-path", "/api")
    begun = begin(app.url, "/files/linked.bin")
    assert begun.status_code == 201
    location = begun.headers["location"]
    assert location.startswith("/api/way/down/resumable/")
    done = end(app.url, location.removeprefix("/api"))
    assert done.status_code == 201, done.text
    assert done.headers["location"] == "/api/files/linked.bin"
    assert (app.folder / "linked.bin").read_bytes() == b"first second"
    (app.folder / "linked.bin").unlink()


def test_middleware_does_not_come_between_an_upload_and_its_interim_responses(application: Start):
    app = application("library.prefixed_app:app", "direct")
    client = RawClient(app)
    fields = ("Upload-Draft-Interop-Version: 8", "Upload-Complete: ?1")
    client.send(head("PUT", "/files/interim.bin", *fields, length=5) + b"hello")
    status, told = client.head()
    assert status == 104
    assert told["location"].startswith("/api/way/down/resumable/")
    assert client.response()[0] == 201
    client.socket.close()
    (app.folder / "interim.bin").unlink()


def test_a_part_is_never_stored_as_the_whole(application: Start, server: str):
    app = application("library.lonely_app:app", server)
    begun = begin(app.url, "/files/part.bin")
    assert begun.status_code == 400
    assert begun.json()["code"] == "FB_INVALID_REQUEST"
    begun = httpx.post(f"{app.url}/files/", content=b"part", headers={**TUS, "Upload-Length": "9"})
    assert begun.status_code == 400
    assert "Send" in begun.text or "send" in begun.text  # what to do
    assert app.published() == {}


def test_an_upload_of_tus_begins_at_the_files_of_an_application(application: Start, server: str):
    app = application("library.prefixed_app:app", server)
    named = {**TUS, "Upload-Metadata": "filename bGlua2VkLmJpbg=="}
    parts = []
    for data in (b"first ", b"second"):
        kind = {"Content-Type": "application/offset+octet-stream", "Upload-Concat": "partial"}
        length = {"Upload-Length": str(len(data))}
        part = httpx.post(f"{app.url}/files/", content=data, headers={**TUS, **kind, **length})
        assert part.status_code == 201, part.text
        assert part.headers["location"].startswith("/api/way/down/resumable/")
        parts.append(part.headers["location"])
    final = {**named, "Upload-Concat": f"final;{' '.join(parts)}"}
    done = httpx.post(f"{app.url}/files/new/", headers=final)
    assert done.status_code == 201, done.text
    assert (app.folder / "new/linked.bin").read_bytes() == b"first second"
    (app.folder / "new/linked.bin").unlink()
    assert "tus-version" in httpx.options(f"{app.url}/files/").headers


def test_parts_of_files_are_accepted_with_upload_state_and_refused_without(
    application: Start, server: str
):
    part = {"Content-Range": "bytes 0-4/10"}
    lonely = application("library.lonely_app:app", server)
    refused = httpx.put(f"{lonely.url}/files/part.bin", content=b"hello", headers=part)
    assert refused.status_code == 501
    assert refused.json()["code"] == "FB_NOT_OFFERED"
    assert (
        httpx.patch(f"{lonely.url}/files/part.bin", content=b"x", headers=part).status_code == 405
    )
    assert lonely.published() == {}
    app = application("library.odd_app:app", server)
    begun = httpx.put(f"{app.url}/files/part.bin", content=b"hello", headers=part)
    assert begun.status_code == 308, begun.text
    rest = {"Content-Range": "bytes 5-9/10"}
    ended = httpx.put(f"{app.url}/files/part.bin", content=b"world", headers=rest)
    assert ended.is_success, ended.text
    assert (app.folder / "part.bin").read_bytes() == b"helloworld"
    (app.folder / "part.bin").unlink()
