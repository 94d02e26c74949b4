"""What was acknowledged is there, whatever happened in between (RUFH checklist, section C)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.server import ServerProcess
from ietf.client import Client, Upload, ask, content, v

MiB = 1 << 20
BODY = content(500_000)
Start = Callable[..., ServerProcess]


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("durability", ["strict", "relaxed"])
def test_an_upload_outlives_the_process(start_server: Start, end: str, durability: str) -> None:
    """Items 11, 12, 13, 39."""
    server = start_server("--durability", durability)
    with Client(server) as client:
        asks = (v(), "Upload-Complete: ?1", "Content-Type: text/x")
        client.half("PUT", "/files/f.bin", *asks, body=BODY[:200_001], length=len(BODY))
        client.half_close()
        location = client.reply().announced
    assert Upload(server, location).where().offset == 200_001
    getattr(server, end)()
    server = start_server("--durability", durability)
    upload = Upload(server, location)
    where = upload.where()
    assert (where.offset, where.complete) == (200_001, "?0")
    assert where.fields["upload-length"] == str(len(BODY))
    last = upload.finish(BODY)
    assert (last.status, last.json["type"]) == (201, "text/x")
    assert upload.stored() == BODY
    getattr(server, end)()
    server = start_server("--durability", durability)
    again = Upload(server, location).append(len(BODY), b"", last=True)
    assert (again.status, again.body) == (201, last.body)


def test_progress_that_was_told_is_never_taken_back(start_server: Start) -> None:
    """Items 13, 35, 60, 71: kill -9 behind a running append and a running creation."""
    server = start_server("--durability", "relaxed")
    whole = content(MiB) * 64
    with Client(server) as client:
        asks = (v(8), "Upload-Complete: ?1")
        client.half("PUT", "/files/f.bin", *asks, body=whole[: 40 * MiB], length=len(whole))
        location = client.head()[1]["location"]
        status, fields = client.head()
        assert (status, fields.names) == (104, {"upload-offset", "upload-draft-interop-version"})
        told = int(fields["upload-offset"])
        server.kill()
    assert 8 * MiB <= told <= 40 * MiB
    server = start_server("--durability", "relaxed")
    upload = Upload(server, location)
    start = upload.where().offset
    assert told <= start <= 40 * MiB
    with Client(server) as client:
        client.send(upload.head(start, v(8), length=len(whole) - start))
        client.send(whole[start : start + 20 * MiB])
        status, fields = client.head()
        assert (status, fields.names) == (104, {"upload-offset", "upload-draft-interop-version"})
        told = int(fields["upload-offset"])
        server.kill()
    assert start + 8 * MiB <= told
    server = start_server("--durability", "relaxed")
    upload = Upload(server, location)
    assert told <= upload.where().offset <= start + 20 * MiB
    assert upload.finish(whole).status == 201
    assert upload.stored() == whole


def test_progress_comes_now_and_then_and_only_when_asked_for(server: ServerProcess) -> None:
    """Items 60, 71, 1: at most one report for 8 MiB here, none without a version."""
    whole = content(MiB) * 40
    for fields in ((v(),), ()):
        upload = Upload.begin(server)
        reply = upload.append(0, whole, *fields, last=True)
        assert reply.status == 201
        assert all("upload-offset" in found for _, found in reply.interim)
        assert not any("location" in found for _, found in reply.interim)
        offsets = [int(found["upload-offset"]) for _, found in reply.interim]
        assert offsets == sorted(set(offsets))
        # five for its size, and one a second on a slow machine
        assert len(offsets) <= (45 if fields else 0)
        (server.folder / "f.bin").unlink()


def test_data_that_was_lost_is_never_offered(start_server: Start) -> None:
    """Item 12."""
    server = start_server("--durability", "relaxed")
    upload = Upload.begin(server, body=BODY)
    data = server.folder / ".forebay/uploads" / upload.id
    with data.open("r+b") as file:
        file.truncate(10)
    assert upload.where().status == 410
    assert upload.append(len(BODY), b"", last=True).status == 410
    assert ask(server, "GET", upload.location).json["state"] == "failed"
    assert not (server.folder / "f.bin").exists()
