"""Encoded bodies where the application takes them, and what hooks are told of them."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from forebay import Forebay
from forebay.errors import (
    TooLarge,
    TooManyUploads,
    UndecodableBody,
    UnsupportedCoding,
    VerificationRefused,
)
from forebay.hooks.base import Candidate
from forebay.model import Durability, KiB, MiB

NOISE = random.Random(1).randbytes(3 * MiB)


def request(
    data: bytes, *codings: bytes, method: str = "POST"
) -> tuple[dict[str, Any], Callable[[], Awaitable[dict[str, Any]]]]:
    pieces = [data[start : start + 64 * KiB] for start in range(0, len(data), 64 * KiB)] or [b""]
    messages = [{"type": "http.request", "body": p, "more_body": True} for p in pieces]
    messages[-1]["more_body"] = False
    headers = [(b"content-encoding", coding) for coding in codings]
    length = (b"content-length", b"%d" % len(data))
    scope = {
        "type": "http",
        "method": method,
        "path": "/f",
        "headers": [(b"host", b"localhost"), length, *headers],
    }

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    return scope, receive


def run(folder: Path, test: Callable[[Forebay], Awaitable[None]], **settings: Any) -> None:
    async def main() -> None:
        uploads = Forebay(folder, min_free=0, durability=Durability.RELAXED, **settings)
        async with uploads.lifespan():
            await test(uploads)
            assert uploads.engine.context.budget.used == 0
            assert uploads.engine.context.admission.running == 0

    asyncio.run(main())


@pytest.mark.parametrize(("data", "kind"), [(b"small" * 100, "memory"), (NOISE, "file")])
def test_an_application_gets_the_body_decoded(tmp_path: Path, data: bytes, kind: str) -> None:
    async def test(uploads: Forebay) -> None:
        async with uploads.body(*request(gzip.compress(data), b"gzip")) as body:
            assert (body.size, body.kind) == (len(data), kind)
            assert await body.read() == data
            stored = await body.move_to("kept")
        assert stored.file.size == len(data)

    run(tmp_path, test, decode_request=True)
    assert (tmp_path / "kept").read_bytes() == data


def test_a_body_whose_size_shows_only_decoded_moves_to_a_file(tmp_path: Path) -> None:
    async def test(uploads: Forebay) -> None:
        for size, kind in ((2 * MiB, "memory"), (2 * MiB + 1, "file")):
            encoded = gzip.compress(bytes(size))
            async with uploads.body(*request(encoded, b"gzip")) as body:
                assert (body.size, body.kind) == (size, kind)
                assert await body.read() == bytes(size)

    run(tmp_path, test, decode_request=True)


def test_without_the_setting_the_application_gets_what_came(tmp_path: Path) -> None:
    async def test(uploads: Forebay) -> None:
        encoded = gzip.compress(b"data")
        async with uploads.body(*request(encoded, b"gzip")) as body:
            assert await body.read() == encoded

    run(tmp_path, test)


def test_what_is_refused_leaves_nothing(tmp_path: Path) -> None:
    encoded = gzip.compress(NOISE)

    async def test(uploads: Forebay) -> None:
        for data, codings, error in (
            (encoded[:-1], (b"gzip",), UndecodableBody),
            (encoded + b"\0", (b"gzip",), UndecodableBody),
            (NOISE, (b"gzip",), UndecodableBody),
            (encoded, (b"gzip", b"gzip"), UnsupportedCoding),
            (encoded, (b"deflate",), UnsupportedCoding),
            (gzip.compress(bytes(5 * MiB)), (b"gzip",), TooLarge),
        ):
            with pytest.raises(error):
                async with uploads.body(*request(data, *codings), max_size=4 * MiB):
                    raise AssertionError("nothing is to be seen of it")

    run(tmp_path, test, decode_request=True)
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p.parent.name == "tmp"] == []


def test_decoders_that_run_are_counted(tmp_path: Path) -> None:
    async def test(uploads: Forebay) -> None:
        budget = uploads.engine.context.budget
        assert budget.take(budget.limit)
        with pytest.raises(TooManyUploads):
            async with uploads.body(*request(gzip.compress(b"x"), b"gzip")):
                raise AssertionError("there is no room")
        budget.give_back(budget.limit)

    run(tmp_path, test, decode_request=True)


def test_who_verifies_sees_the_decoded_file(tmp_path: Path) -> None:
    seen: list[tuple[int, bytes]] = []

    async def test(uploads: Forebay) -> None:
        @uploads.on_verify
        def look(candidate: Candidate) -> None:
            with candidate.open() as file:
                seen.append((candidate.size, file.read()))
            raise VerificationRefused

        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await uploads.files(*request(gzip.compress(b"data"), b"gzip", method="PUT"), send)
        assert sent[0]["status"] == 422
        await uploads.files(*request(gzip.compress(b"data")[:-1], b"gzip", method="PUT"), send)
        assert sent[2]["status"] == 400

    run(tmp_path, test, decode_request=True)
    assert seen == [(4, b"data")]
    assert not (tmp_path / "f").exists()
