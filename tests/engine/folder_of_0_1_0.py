"""A folder that 0.1.0 served and was killed in, several times: files, staged data and state."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

STATE = Path(__file__).parent.parent / "sessions" / "sqlite" / "data" / "state-0.1.0.sql"
DATA = bytes(range(256)) * 40
"""The content of each of its files."""

UNFINISHED, IETF, PUBLISHED, UNPUBLISHED, PENDING, WHOLE, PART, FINAL, DONE, FAILED = (
    name.ljust(22, "-")
    for name in (
        "unfinished",  # tus, 4000 bytes acknowledged and some more written
        "ietf",  # 1000 bytes; a digest and a precondition are recorded
        "published",  # killed between the publication and its record
        "unpublished",  # killed between the final name and the publication
        "pending",  # on_complete raised; it is to be called again
        "whole",  # one request; killed while on_complete ran
        "part-open",  # the last part of `final`, 100 of 5000 bytes
        "final",  # of three parts; the bytes of two are in it
        "done",
        "failed",
    )
)


def make(folder: Path) -> None:
    """Makes the folder, or fills it."""
    uploads = folder / ".forebay" / "uploads"
    uploads.mkdir(parents=True)
    staged = {
        UNFINISHED: DATA[:4000] + b"not acknowledged",
        IETF: DATA[:1000],
        PUBLISHED: DATA,
        UNPUBLISHED: DATA,
        WHOLE: DATA,
        "part0".ljust(22, "-"): DATA[:5000],
        "part1".ljust(22, "-"): DATA[5000:10_000],
        PART: DATA[:100],
        FINAL: DATA[:10_000],
    }
    for name, content in staged.items():
        (uploads / name).write_bytes(content)
    for name in (PUBLISHED, WHOLE):  # in 0.1.0 the data keeps its staging name until the record
        os.link(uploads / name, folder / f"{name.rstrip('-')}.bin")
    for name in (PENDING, DONE):
        (folder / f"{name.rstrip('-')}.bin").write_bytes(DATA)
    with contextlib.closing(sqlite3.connect(folder / ".forebay" / "state.db")) as connection:
        connection.executescript(STATE.read_text())
