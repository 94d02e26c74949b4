"""How the C library keeps freed memory, in processes of their own: it holds for a whole process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from forebay.http.allocator import chosen_by_operator

FAULTS = """
import platform, resource, socket, sys
from forebay.http import process
from forebay.http.allocator import keep_freed_memory
if platform.libc_ver()[0] != "glibc":
    print("skip")
    raise SystemExit
what, folder = [*sys.argv[1:], "", ""][:2]
if what == "tuned":
    assert keep_freed_memory() and keep_freed_memory()
elif what.startswith("library"):
    import asyncio
    from forebay import Forebay
    from forebay.http.asgi_source import ReceiveSource
    uploads = Forebay(folder, tune_allocator=what == "library, told")
    async def large():
        ReceiveSource(None, 1 << 30), ReceiveSource(None, None)
    asyncio.run(large())
elif what.startswith("serve"):
    from forebay.config import parse_settings
    from forebay.engine.transfer.admission import Tally
    process.Server.run = lambda self, sockets: None
    tls = {"ssl_certfile": "c.pem", "ssl_keyfile": "k.pem"} if what == "serve, TLS" else {}
    process.serve_one(parse_settings({"dir": folder, **tls}), None, socket.socket(), Tally())
def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        pieces = [b"x" * 200_000 for _ in range(6)]
        del pieces
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(5)
print(faults(100))
"""


def faults(*arguments: str) -> int:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, *arguments],
        env=clean,
        capture_output=True,
        text=True,
        check=True,
    )
    if done.stdout.strip() == "skip":
        pytest.skip("no glibc here, so nothing is changed")
    return int(done.stdout)


def test_pieces_of_a_body_are_not_faulted_in_again_and_again():
    assert faults() > 10_000
    assert faults("tuned") < 1_000


@pytest.mark.parametrize(
    ("process", "keeps"),
    [("library", False), ("library, told", True), ("serve", False), ("serve, TLS", True)],
)
def test_only_a_server_under_tls_keeps_freed_memory_untold(
    process: str, keeps: bool, tmp_path: Path
):
    count = faults(process, str(tmp_path))
    assert count < 1_000 if keeps else count > 10_000


def test_what_the_operator_chose_is_left_alone():
    assert not chosen_by_operator({})
    assert not chosen_by_operator({"GLIBC_TUNABLES": "glibc.pthread.rseq=0"})
    assert chosen_by_operator({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1"})
    assert chosen_by_operator({"MALLOC_TRIM_THRESHOLD_": "1"})
