"""What the bench needs to know of a contender: how to start it, upload to it, and clean up."""

import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.job import Framing, Step

TUS = ("Tus-Resumable", "1.0.0")
BOUNDARY = "------------------------d74496d66958873e2f1a0b"  # as long as that of curl
OFFSET_STREAM = ("Content-Type", "application/offset+octet-stream")


@dataclass(frozen=True)
class Certificate:
    """A self-made certificate for 127.0.0.1, and its key."""

    cert: Path
    key: Path


@dataclass(frozen=True)
class Options:
    """How a contender differs from its plain self in one scenario."""

    label: str = ""
    certificate: Certificate | None = None
    framing: Framing = "length"
    headers: tuple[tuple[str, str], ...] = ()
    strict: bool = False
    one_worker: bool = False
    tus: bool = False
    """By tus, where a contender has a choice."""
    form: bool = False
    """As multipart/form-data, where a contender has a choice."""
    fields: int = 0
    """Text fields before the file of a form."""
    piece: int | None = None
    """Bytes in one PATCH; a whole upload when None."""
    workers: int = 1
    arguments: tuple[str, ...] = ()
    """More of the command line."""
    unfinished: int = 0
    """Uploads that were begun before the server starts."""


@dataclass(frozen=True)
class SmallRequest:
    """One small upload for wrk. `%d` in the path becomes a number of its own per request."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class Contender(ABC):
    """A server under test. `name` is unique in a run; `family` is what --contender selects."""

    options: Options = field(default_factory=Options)

    family = ""
    language = ""
    #: what else than one upload with a Content-Length it can do: chunked, tls, download
    abilities: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return f"{self.family} {self.options.label}".strip()

    @abstractmethod
    def missing(self) -> str | None:
        """Why it cannot run here, and what would help; None when it can."""

    @abstractmethod
    def command(self, folder: Path, port: int) -> list[str]:
        """The command that serves `folder` on 127.0.0.1:`port` in the foreground."""

    @abstractmethod
    def upload(self, name: str, size: int) -> tuple[Step, ...]:
        """The requests of one whole upload."""

    def version(self) -> str:
        return ""

    def durability(self) -> str:
        """What an answer of 2xx promises about power loss."""
        return "none (page cache)"

    def prepare(self, folder: Path) -> None:  # noqa: B027  (most need nothing)
        """Makes what the server expects to find. Called once, before the start."""

    def environment(self, folder: Path) -> dict[str, str]:
        return {}

    def small(self, size: int) -> SmallRequest | None:
        """The smallest request that stores a whole file, or None."""
        return None

    def download_path(self, name: str, stored: Path) -> str | None:
        """Where a finished upload can be fetched; `stored` is its file on disk."""
        return None

    def bodies(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        """The stored files, without the server's own state (hidden folders, .info, .json)."""
        yield from _visible_files(folder)

    def start(self, folder: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
        self.prepare(folder)
        environment = {**os.environ, **self.environment(folder)}
        with log.open("wb") as output:
            return subprocess.Popen(
                self.command(folder, port),
                cwd=folder.parent,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


STATE_SUFFIXES = (".info", ".tmp", ".json", ".lock", ".sqlite", ".sqlite3", ".db", "-wal", "-shm")


def _visible_files(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _visible_files(entry.path)
            elif not entry.name.endswith(STATE_SUFFIXES):
                yield entry


def printed_line(*command: str, index: int = 0) -> str:
    """The first line a program prints (-1: the last); empty when it cannot be asked."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=False, text=True)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[index].strip() if lines else ""


def form_upload(path: str, name: str, fields: int = 0) -> tuple[Step, ...]:
    """One form: some text fields, then the file in the field `file`."""
    texts = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="field-{number}"\r\n\r\n'
        f"value {number}\r\n"
        for number in range(fields)
    )
    prefix = (
        f"{texts}--{BOUNDARY}\r\n"
        f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    content_type = ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    suffix = f"\r\n--{BOUNDARY}--\r\n"
    return (Step("POST", path, (content_type,), body=True, prefix=prefix, suffix=suffix),)


def tus_upload(collection: str, size: int, piece: int | None = None) -> tuple[Step, ...]:
    """Creation, then the body in PATCHes of `piece` bytes; in one when that is None."""
    create = Step("POST", collection, (TUS, ("Upload-Length", str(size))))
    if piece is None:
        return create, _tus_patch(0, None)
    starts = range(0, size, piece)
    return create, *(_tus_patch(start, min(piece, size - start)) for start in starts)


def _tus_patch(start: int, size: int | None) -> Step:
    headers = (TUS, OFFSET_STREAM, ("Upload-Offset", str(start)))
    return Step("PATCH", "@location", headers, body=True, start=start, size=size)


def tus_small(collection: str, size: int) -> SmallRequest:
    """Creation with upload: one POST that carries the whole body."""
    return SmallRequest("POST", collection, (TUS, OFFSET_STREAM, ("Upload-Length", str(size))))
