"""Limits and their announcement (RUFH checklist, section D)."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.server import ServerProcess
from ietf.client import Upload, ask, v

Start = Callable[..., ServerProcess]


@pytest.mark.parametrize("target", ["/files/", "/files/f.bin", "/uploads/", "*"])
def test_options_tell_of_the_limits(reuse_server: Start, target: str) -> None:
    """Items 9, 22, 23, 24."""
    for options, told in (
        (("--retention", "0"), {"min-size": 0}),
        (("--retention", "100", "--max-size", "1000"), {"max-size": 1000, "max-age": 100}),
        (("--max-size", "1000000000000000000", "--retention", "0"), {"min-size": 0}),  # item 9
    ):
        server = reuse_server(*options)
        reply = ask(server, "OPTIONS", target)
        assert reply.limits == told
        assert reply.fields["accept-patch"] == "application/partial-upload"
        asked = ask(server, "OPTIONS", target, "Upload-Complete: ?1")
        assert "upload-limit" not in asked.fields


def test_an_upload_has_the_limits_that_were_announced(reuse_server: Start) -> None:
    """Items 8, 24, 25, 26."""
    server = reuse_server("--retention", "100", "--max-size", "1000")
    reply = ask(server, "PUT", "/files/f.bin", v(), "Upload-Complete: ?0", body=b"x")
    [(_, announced)] = reply.interim
    assert announced["upload-limit"].startswith("max-size=1000, max-age=")
    upload = Upload(server, reply.announced)
    for found in (reply, upload.where(), upload.append(1, b"y")):
        assert found.limits["max-size"] == 1000
        assert 90 <= found.limits["max-age"] <= 100
    assert upload.ask("DELETE").status == 204


def test_without_limits_an_upload_says_so(reuse_server: Start) -> None:
    """Items 22, 25: never an empty value, and no end of life."""
    server = reuse_server("--retention", "0")
    upload = Upload.begin(server)
    assert upload.where().limits == {"min-size": 0}
    assert upload.ask("DELETE").status == 204


def test_what_is_too_large_is_refused_at_its_head(reuse_server: Start) -> None:
    """Items 27, 40, 83: whichever way its length is told."""
    server = reuse_server("--max-size", "1000")
    for fields, size in (
        (("Upload-Complete: ?1",), 1001),
        (("Upload-Complete: ?0", "Upload-Length: 1001"), 5),
    ):
        for number in (9, 99):
            reply = ask(server, "PUT", "/files/f.bin", v(number), *fields, body=b"x" * size)
            assert (reply.status, reply.complete, reply.interim) == (413, "?1", [])
            assert reply.limits["max-size"] == 1000
    assert server.leftovers() == []


def test_many_small_requests_do_not_pass_the_limit(reuse_server: Start) -> None:
    """Items 27, 61, 83."""
    server = reuse_server("--max-size", "1000")
    upload = Upload.begin(server, body=b"x" * 600)
    over = upload.append(600, b"x" * 401)
    assert (over.status, over.complete) == (413, "?0")
    assert over.limits["max-size"] == 1000
    assert upload.where().offset == 600
    assert upload.append(600, b"", "Upload-Length: 1001").status == 413
    assert upload.append(600, b"x" * 400, last=True).status == 201


def test_passing_the_limit_while_sending_ends_the_upload(reuse_server: Start) -> None:
    """Items 27, 83: chunked, so no head gives it away."""
    server = reuse_server("--max-size", "1000")
    upload = Upload.begin(server)
    over = upload.append_chunked(0, b"x" * 1001, last=True)
    assert (over.status, over.complete) == (413, "?1")
    assert over.limits["max-size"] == 1000
    assert upload.where().status == 410
    assert server.leftovers() == []


def test_a_smaller_limit_is_for_new_uploads_only(start_server: Start, tmp_path: Path) -> None:
    """Item 26."""
    toml = tmp_path / "forebay.toml"
    toml.write_text('max-size = "1000"\ndurability = "relaxed"\n')
    server = start_server("--config", str(toml))
    kept = Upload.begin(server)
    toml.write_text('max-size = "10"\ndurability = "relaxed"\n')
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log("settings read again")
    assert kept.where().limits["max-size"] == 1000
    assert kept.append(0, b"x" * 1000, last=True).status == 201
    assert ask(server, "OPTIONS", "/files/").limits["max-size"] == 10


def test_a_request_that_brings_too_much_is_refused_and_the_upload_goes_on(
    reuse_server: Start,
) -> None:
    """Item 29, for proxies that limit bodies."""
    server = reuse_server("--max-append-size", "100", "--retention", "0")
    assert ask(server, "OPTIONS", "/files/").limits == {"max-append-size": 100}
    created = ask(server, "PUT", "/files/f.bin", v(), "Upload-Complete: ?1", body=b"x" * 101)
    assert (created.status, created.interim) == (413, [])
    assert created.limits == {"max-append-size": 100}
    assert server.leftovers() == []
    upload = Upload.begin(server, body=b"x" * 100)
    assert upload.where().limits == {"max-append-size": 100}
    over = upload.append(100, b"x" * 101, last=True)
    assert (over.status, over.complete) == (413, "?0")
    assert b"--max-append-size" in over.body
    assert upload.where().offset == 100
    over = upload.append_chunked(100, b"y" * 101, last=True)
    assert (over.status, over.complete) == (413, "?0")
    at = upload.where().offset
    assert 100 <= at <= 200
    assert upload.append(at, b"y" * (250 - at)).status == (204 if at >= 150 else 413)
    at = upload.where().offset
    assert upload.append(at, b"z", last=True).status == 201
    assert (server.folder / "f.bin").read_bytes() == b"x" * 100 + b"y" * (at - 100) + b"z"


def test_an_upload_past_its_age_is_gone(reuse_server: Start) -> None:
    """Items 30, 50."""
    server = reuse_server("--retention", "0.000001")
    reply = ask(server, "PUT", "/files/f.bin", v(), "Upload-Complete: ?0", body=b"")
    upload = Upload(server, reply.fields["location"])
    assert reply.limits["max-age"] == 0
    assert upload.where().status == 410
    gone = upload.append(0, b"x", last=True)
    assert gone.status == 410
    assert not (server.folder / "f.bin").exists()
