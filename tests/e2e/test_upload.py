"""What a person does first: send a file, find it under its name."""

from __future__ import annotations

import hashlib
import json
import subprocess

from e2e.server import ServerProcess


def test_a_file_sent_with_curl_is_found_under_its_name(server: ServerProcess, tmp_path):
    source = tmp_path / "a file.bin"
    source.write_bytes(bytes(range(256)) * 40_000)
    done = subprocess.run(
        ["curl", "-sS", "-T", str(source), f"{server.url}/files/"], capture_output=True, check=True
    )
    answer = json.loads(done.stdout)
    assert answer["size"] == source.stat().st_size
    stored = server.folder / answer["name"]
    assert (
        hashlib.sha256(stored.read_bytes()).digest() == hashlib.sha256(source.read_bytes()).digest()
    )
    assert server.leftovers() == []
