"""`python -m bench.unfinished DIR COUNT IDS`: begins uploads in a folder that nobody serves.

Run by the project's own Python. What a server does for each creation, without HTTP and a
transaction for each: data through its file store, rows through its session store.
"""

import asyncio
import dataclasses
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator

from forebay.backends import FolderStore, make_sessions, make_store
from forebay.config import Settings
from forebay.model import Durability, UploadRecord, UploadState

BATCH = 5000
LENGTH = 1 << 20
DAY = 86_400.0


def record(upload_id: str) -> UploadRecord:
    """As the engine makes it of a tus creation."""
    now = time.time()
    return UploadRecord(
        id=upload_id,
        principal="",
        dialect="tus",
        state=UploadState.OPEN,
        offset=0,
        length=LENGTH,
        name=f"upload-{secrets.token_hex(8)}",
        created_at=now,
        expires_at=now + DAY,
        extra=json.dumps({"completes_by_length": True}).encode(),
    )


def batches(count: int) -> Iterator[list[str]]:
    for start in range(0, count, BATCH):
        yield [secrets.token_urlsafe(24) for _ in range(min(BATCH, count - start))]


def make_data(store: FolderStore, ids: list[str]) -> None:
    for upload_id in ids:
        store.begin(record(upload_id), None, sealable=True).close()


async def begin(folder: str, count: int, ids_path: str) -> None:
    settings = dataclasses.replace(Settings(), dir=folder, durability=Durability.RELAXED)
    store = make_store(settings)
    sessions = make_sessions(settings, store)
    await sessions.open()
    try:
        with open(ids_path, "w", encoding="ascii") as listing:
            for ids in batches(count):
                # Both at once: the rows are written in the session store's own thread.
                rows = [asyncio.ensure_future(sessions.create(record(i))) for i in ids]
                await asyncio.gather(asyncio.to_thread(make_data, store, ids), *rows)
                listing.writelines(f"{upload_id}\n" for upload_id in ids)
    finally:
        await sessions.close()
        store.close()


if __name__ == "__main__":
    asyncio.run(begin(os.path.abspath(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
