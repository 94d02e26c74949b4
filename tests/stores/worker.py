"""The other process of these tests: python worker.py FOLDER KIND COMMAND..."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

from forebay.errors import DiskFull, NameTaken, PreconditionFailed, UploadError
from forebay.model import Conflict
from forebay.stores.files.store import FileStore
from stores.samples import at_once, begin, file_store, fill, how, if_match, put


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def pause() -> None:
    """Until the parent's next line, or the end of its pipe."""
    say("ready")
    sys.stdin.readline()


def hold(store: FileStore, opening: str, *arguments: str) -> None:
    """Holds data until the parent says so, or kills."""
    staged = begin(store, *arguments) if opening == "begin" else getattr(store, opening)(*arguments)
    fill(staged, b"12345")
    pause()
    staged.close()
    say("closed")


def publish(
    store: FileStore, name: str, conflict: str, prefix: str, threads: str, count: str
) -> None:
    def act(thread: int) -> None:
        for number in range(int(count)):
            content = f"{prefix}-{thread}-{number}"
            try:
                final = put(store, name, content.encode() * 500, Conflict(conflict)).file.name
                say("got", content, final)
            except NameTaken:
                say("taken")

    pause()
    outcomes = at_once(int(threads), act)
    say("done" if outcomes == [None] * int(threads) else outcomes)


def replace(store: FileStore, name: str, tag: str, content: str) -> None:
    pause()
    try:
        put(store, name, content.encode(), Conflict.REPLACE, if_match(tag))
        say("got")
    except PreconditionFailed:
        say("refused")


def reserve(store: FileStore, size: str, count: str) -> None:
    """Tells how many bodies of that size found room, and keeps them for a while."""
    staged = [store.stage() for _ in range(int(count))]
    pause()
    promised = 0
    for each in staged:
        try:
            each.reserve(int(size))
            piece = memoryview(bytes(1 << 18))
            for at in range(0, int(size), len(piece)):
                each.write(piece[: int(size) - at], at)
            promised += 1
        except DiskFull:
            each.discard()
    say(promised)
    sys.stdin.readline()


def upload(store: FileStore, name: str, conflict: str) -> None:
    """Steps for a tracer: each outcome is told with the number of its step."""
    staged = store.stage()
    steps = (
        lambda: fill(staged, b"a" * 4096),
        lambda: fill(staged, b"b" * 4096),
        lambda: fill(staged, b"c" * 4096),
        lambda: staged.commit(flush=True),
        lambda: staged.commit(flush=True),
        lambda: staged.publish(how(name, Conflict(conflict))),
        lambda: staged.publish(how(name, Conflict(conflict))),
        staged.discard,
    )
    for number, step in enumerate(steps):
        try:
            step()
            say(number, "done", staged.offset)
        except UploadError as error:
            say(number, type(error).__name__, staged.offset)


def make(store: FileStore) -> None:
    """Nothing: the store is made, and closed."""


def create(store: FileStore, upload_id: str) -> None:
    try:
        begin(store, upload_id)
        say("done")
    except UploadError as error:
        say(type(error).__name__, *os.listdir(store.uploads_fd))


COMMANDS = {each.__name__: each for each in (hold, publish, replace, reserve, upload, make, create)}


def main(folder: str, kind: str, command: str, *arguments: str) -> None:
    with file_store(Path(folder), kind) as store:
        COMMANDS[command](store, *arguments)


main(*sys.argv[1:])
