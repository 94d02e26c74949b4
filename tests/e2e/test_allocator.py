"""What the C library is told about memory, in processes of their own: it holds for all of one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from forebay.http.allocator import chosen_by_operator

FAULTS = """
import platform, resource, sys
from forebay.http.allocator import keep_freed_memory
if platform.libc_ver()[0] != "glibc":
    print("skip")
    raise SystemExit
if "tuned" in sys.argv:
    assert keep_freed_memory() and keep_freed_memory()
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


def test_what_the_operator_chose_is_left_alone():
    assert not chosen_by_operator({})
    assert not chosen_by_operator({"GLIBC_TUNABLES": "glibc.pthread.rseq=0"})
    assert chosen_by_operator({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1"})
    assert chosen_by_operator({"MALLOC_TRIM_THRESHOLD_": "1"})
