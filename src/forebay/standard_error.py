"""What is told to a person on standard error; a full or closed one stops nothing."""

from __future__ import annotations

import contextlib
import os
import sys

__all__ = ["flush_or_forget", "hold_standard_descriptors", "say"]


def say(line: str) -> None:
    """Writes a line. What cannot be told (a full disk, a reader that is gone) is dropped."""
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError):  # ValueError: the stream was closed
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def hold_standard_descriptors() -> None:
    """Opens those of 0, 1 and 2 that are closed. Else a file of somebody's upload may get the
    number, and what the interpreter or a library tells there would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free


def flush_or_forget() -> None:
    """Flushes what was told. If that fails, it is forgotten: the exit code stays what it is,
    and does not become Python's own for a stream that could not be flushed.
    """
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, number)
                os.close(null)
