"""The README's commands and code, run as they are written."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.server import ServerProcess

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def block(language: str, containing: str) -> str:
    found = [text for kind, text in BLOCKS if kind == language and containing in text]
    assert len(found) == 1, f"{len(found)} blocks of {language} hold {containing!r}"
    return found[0]


@pytest.fixture
def server(tmp_path: Path):
    running = ServerProcess(tmp_path / "store", "--durability", "relaxed")
    yield running
    running.stop()


def test_the_curl_examples_work_when_pasted(server: ServerProcess, tmp_path: Path):
    content = os.urandom(300_000)
    home = tmp_path / "home"
    home.mkdir()
    (home / "big.iso").write_bytes(content)
    script = block("sh", "curl -O").replace("http://127.0.0.1:8000", server.url)
    # Got back under its own name into a folder of its own, so that it is not just still there.
    script = script.replace("curl -O ", "mkdir back && cd back && curl -O ")
    done = subprocess.run(
        ["sh", "-e", "-c", script], cwd=home, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert (home / "back" / "big.iso").read_bytes() == content
    sizes = server.published()
    assert {"big.iso", "big (1).iso", "backups/today.tar", "verified.iso", "forms/big.iso"} == set(
        sizes
    )
    for name in ("big.iso", "big (1).iso", "verified.iso"):
        assert (server.folder / name).read_bytes() == content
    assert (home / "back" / "first-bytes").read_bytes() == content[:100]


def test_the_resumable_example_works_when_pasted(server: ServerProcess, tmp_path: Path):
    pytest.importorskip("tusclient")
    content = os.urandom(200_000)
    (tmp_path / "big.iso").write_bytes(content)
    script = block("python", "TusClient").replace("http://127.0.0.1:8000", server.url)
    script = script.replace("50_000_000", "50_000")  # in several requests all the same
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=60)
    assert (server.folder / "big.iso").read_bytes() == content
    shown = subprocess.run(
        [sys.executable, "-m", "forebay", "uploads", "list", str(server.folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "big.iso" in shown.stdout


def test_the_library_example_runs_as_written(tmp_path: Path):
    pytest.importorskip("fastapi")
    (tmp_path / "example.py").write_text(block("python", "FastAPI"))
    command = [
        sys.executable, "-m", "uvicorn", "example:app", "--port", "0",
        "--http", "forebay.http.direct:DirectProtocol",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        url = None
        for line in process.stderr:
            if found := re.search(r"running on (http://[0-9.:]+)", line):
                url = found[1]
                break
        assert url is not None
        content = os.urandom(3_000_000)
        source = tmp_path / "source.bin"
        source.write_bytes(content)
        sent = subprocess.run(
            ["curl", "-sS", "-X", "POST", "-T", str(source), f"{url}/inspect"],
            capture_output=True,
            check=True,
        )
        assert json.loads(sent.stdout) == {
            "name": "inspected/it.bin",
            "size": len(content),
            "kind": "file",
        }
        assert (tmp_path / "data/inspected/it.bin").read_bytes() == content
        back = subprocess.run(
            ["curl", "-sS", f"{url}/files/inspected/it.bin"], capture_output=True, check=True
        )
        assert back.stdout == content
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def test_the_readme_names_every_script_that_it_should():
    for name in ("scripts/serve", "scripts/test", "scripts/check"):
        assert name in README
        assert os.access(Path(__file__).parents[1] / name, os.X_OK)
