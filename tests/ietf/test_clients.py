"""Programs that speak the draft, and programs that have never heard of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.server import ServerProcess
from ietf.client import Upload, content, v

BODY = content(3_000_000)
HERE = Path(__file__).parent


def curl(*arguments: str) -> str:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    found = subprocess.run(
        ["curl", "-sS", "--max-time", "60", "-D", "-", *arguments],
        capture_output=True,
        timeout=90,
        check=True,
        text=True,
    )
    return found.stdout


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.bin"
    path.write_bytes(BODY)
    return path


def test_curl_passes_over_every_104(server: ServerProcess, file: Path) -> None:
    """Items 33, 70, 42: curl waits for its 100 and takes the 201 for the answer."""
    told = curl("-T", str(file), "-H", v(), "-H", "Upload-Complete: ?1", f"{server.url}/files/")
    lines = told.splitlines()
    statuses = [line.split(" ")[1] for line in lines if line.startswith("HTTP/")]
    assert statuses == ["104", "100", "201"]
    assert json.loads(lines[-1])["size"] == len(BODY)
    assert (server.folder / "f.bin").read_bytes() == BODY


def test_curl_over_tls_passes_over_every_104(
    start_tls: Callable[..., ServerProcess], file: Path
) -> None:
    """Items 33, 70, 42: no bare socket there, and the same interim responses."""
    server = start_tls()
    fields = ("-H", v(), "-H", "Upload-Complete: ?1")
    told = curl("-k", "-T", str(file), *fields, f"{server.url}/files/")
    statuses = [line.split(" ")[1] for line in told.splitlines() if line.startswith("HTTP/")]
    assert statuses == ["104", "100", "201"]
    assert (server.folder / "f.bin").read_bytes() == BODY


def test_curl_goes_on_with_an_upload(server: ServerProcess, file: Path) -> None:
    """Items 51, 56: the rest of a file from where the server has it."""
    upload = Upload.begin(server, body=BODY[:1_000_000])
    rest = file.with_suffix(".rest")
    rest.write_bytes(BODY[upload.where().offset :])
    fields = ["Upload-Offset: 1000000", "Upload-Complete: ?1"]
    kind = "Content-Type: application/partial-upload"
    flags = [part for field in (*fields, kind, v()) for part in ("-H", field)]
    where = server.url + upload.location
    told = curl("-X", "PATCH", "--data-binary", f"@{rest}", *flags, where)
    assert "201" in told
    assert upload.stored() == BODY


def test_curl_without_any_of_it_gets_what_it_always_got(server: ServerProcess, file: Path) -> None:
    """Item 31."""
    told = curl("-T", str(file), f"{server.url}/files/")
    assert "104" not in [line.split(" ")[1] for line in told.splitlines() if "HTTP/" in line]
    assert "upload-complete" not in told


# --- tus-js-client -----------------------------------------------------------------------------


def tus_js_client() -> str:
    """Where it is installed: that of the tests of tus, or FOREBAY_NODE_MODULES."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    tus = HERE.parent / "tus"
    named = Path(os.getenv("FOREBAY_NODE_MODULES", "-"))
    places = [*tus.glob("node_modules"), *tus.glob("*/node_modules"), named]
    for place in places:
        if (place / "tus-js-client/package.json").exists():
            return str(place / "tus-js-client")
    pytest.skip("tus-js-client is not there: tests/tus installs it, FOREBAY_NODE_MODULES names it")


@pytest.mark.parametrize("protocol", ["ietf-draft-03", "ietf-draft-05"])
@pytest.mark.parametrize(
    ("mode", "chunk"),
    [("plain", "Infinity"), ("plain", "700000"), ("creation", "700000"), ("resume", "700000")],
)
@pytest.mark.parametrize("place", ["uploads", "files"])
def test_tus_js_client_in_its_modes_for_the_draft(
    server: ServerProcess, file: Path, protocol: str, mode: str, chunk: str, place: str
) -> None:
    """Items 3, 37, 44, 55, 56: interop versions 5 and 6."""
    module = tus_js_client()
    endpoint = f"{server.url}/{place}/?name=f.bin"
    command = ["node", str(HERE / "client.cjs"), module, endpoint, str(file), protocol, chunk, mode]
    found = subprocess.run(command, capture_output=True, timeout=60, text=True)
    assert found.returncode == 0, found.stderr + server.log
    assert "/uploads/" in json.loads(found.stdout)["url"]
    assert (server.folder / "f.bin").read_bytes() == BODY
