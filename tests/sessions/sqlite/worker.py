"""The other process of test_processes: python worker.py FOLDER DURABILITY COMMAND..."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

from forebay.model import Durability
from forebay.sessions.sqlite.sessions import SqliteSessions
from sessions.samples import make, record


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def wait_for_parent() -> None:
    """Until its next line, or the end of its pipe."""
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def write(sessions: SqliteSessions, prefix: str, count: str) -> None:
    """Uploads that are created and advanced, many at once, then advanced together."""
    say("ready")
    await wait_for_parent()

    async def one(n: int) -> None:
        await sessions.create(record(f"{prefix}-{n}"))
        for offset in range(1, 6):
            await sessions.advance(f"{prefix}-{n}", offset, None)
            await sessions.update("shared", extra=prefix.encode())

    await asyncio.gather(*(one(n) for n in range(int(count))))
    say("done")


async def advance_for_ever(sessions: SqliteSessions, uploads: str) -> None:
    """Says each offset after it was acknowledged."""

    async def one(n: int) -> None:
        await sessions.create(record(f"u{n}"))
        for offset in range(1, 10**9):
            await sessions.advance(f"u{n}", offset, None)
            say(f"u{n}", offset)

    await asyncio.gather(*(one(n) for n in range(int(uploads))))


async def listen(sessions: SqliteSessions) -> None:
    """Says who is asked for, and asks in turn."""

    def asked(upload_id: str) -> None:
        say("asked", upload_id)

    sessions.on_release_asked(asked)
    say("ready")
    await wait_for_parent()
    await sessions.ask_release("from-the-child")
    await wait_for_parent()


COMMANDS = {"write": write, "advance": advance_for_ever, "listen": listen}


async def main(folder: str, durability: str, command: str, *arguments: str) -> None:
    sessions = make(Path(folder), Durability(durability))
    await sessions.open()
    try:
        await COMMANDS[command](sessions, *arguments)
    finally:
        await sessions.close()


asyncio.run(main(*sys.argv[1:]))
