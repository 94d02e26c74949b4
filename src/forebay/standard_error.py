"""Messages on standard error; a full or closed one stops nothing."""

from __future__ import annotations

import contextlib
import os
import sys

__all__ = ["flush_or_forget", "hold_standard_descriptors", "say"]


def say(line: str) -> None:
    """Writes a line; drops it when it cannot be written (a full disk, a closed pipe)."""
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError):  # ValueError: the stream was closed
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def hold_standard_descriptors() -> None:
    """Opens the descriptors 0, 1 and 2 where they are closed. Otherwise the file of an upload may
    get the number, and messages of the interpreter or a library would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free


def flush_or_forget() -> None:
    """Flushes standard output and error, and drops what cannot be written. Otherwise Python would
    change the exit code because a stream could not be flushed.
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
