"""Names on the disk are UTF-8, whatever the locale is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from e2e.server import ServerProcess

Start = Callable[..., ServerProcess]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
NAME = "Übung 日本 🦊.txt"
JSON = {"Accept": "application/json"}
TUS = {"Tus-Resumable": "1.0.0"}


@pytest.mark.parametrize("options", [(), ("--compress-at-rest", "zstd")], ids=["plain", "packed"])
def test_names_are_utf8_under_an_ascii_locale(
    start_server: Start, store_folder: Path, options: tuple[str, ...]
) -> None:
    """Bug: they could not be written, or were written in the locale's charset."""
    server = start_server("--durability", "relaxed", "--allow-delete", *options, env=ASCII)
    where = f"/files/{quote('Ordner ä')}/{quote(NAME)}"
    content = b"some text that is long " * 1000
    assert server.request("PUT", where, content)[0] == 201
    folder = os.path.join(os.fsencode(store_folder), "Ordner ä".encode())
    assert os.listdir(folder) == [NAME.encode()]
    assert server.request("GET", where)[2] == content
    there = server.request("GET", f"/files/{quote('Ordner ä')}/", headers=JSON)[2]
    assert NAME in str(json.loads(there))
    fields = {**TUS, "Upload-Length": "3", "Upload-Metadata": "filename w5wudHh0"}
    status, headers, _ = server.request("POST", "/uploads/", b"", fields)
    assert status == 201
    location = headers["location"].removeprefix(server.url)
    patch = {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert server.request("PATCH", location, b"abc", patch)[0] == 204
    assert os.path.exists(os.path.join(os.fsencode(store_folder), "Ü.txt".encode()))
    assert server.request("PUT", where, b"new", {"If-Match": "*"})[0] in (200, 201, 204)
    assert server.request("DELETE", where)[0] == 204
    assert not os.path.exists(folder)  # made for the upload, and empty
    assert "Traceback" not in server.log


def test_a_name_that_is_there_is_found_and_listed(start_server: Start, store_folder: Path) -> None:
    (store_folder / NAME).write_bytes(b"there")
    server = start_server("--durability", "relaxed", env=ASCII)
    assert server.request("GET", f"/files/{quote(NAME)}")[2] == b"there"
    body = server.request("GET", "/files/", headers=JSON)[2]
    assert NAME in str(json.loads(body))


def test_a_folder_with_such_a_name_is_served_and_told_of(
    start_server: Start, store_folder: Path
) -> None:
    folder = store_folder / "Größe"
    server = start_server("--durability", "relaxed", env=ASCII, folder=folder)
    assert server.request("PUT", "/files/a", b"abc")[0] == 201
    assert (folder / "a").read_bytes() == b"abc"
    fields = {**TUS, "Upload-Length": "3", "Upload-Metadata": "filename w5wudHh0"}
    assert server.request("POST", "/uploads/", b"", fields)[0] == 201
    listed = subprocess.run(
        [sys.executable, "-m", "forebay", "uploads", "list", str(folder)],
        env={**os.environ, **ASCII},
        capture_output=True,
        timeout=60,
    )
    assert listed.returncode == 0, listed.stderr
    assert b"Traceback" not in listed.stderr
