"""Peers in Python, each a small application under uvicorn with one worker."""

from dataclasses import dataclass
from pathlib import Path

from bench.contenders.base import (
    Contender,
    SmallRequest,
    form_upload,
    printed_line,
    tus_small,
    tus_upload,
)
from bench.contenders.forebay import uvicorn_command
from bench.job import Step
from bench.paths import peers_python


@dataclass
class PythonPeer(Contender):
    language = "Python"
    app = ""
    package = ""

    def missing(self) -> str | None:
        python = str(peers_python())
        if not peers_python().exists():
            return "no virtual environment for the Python peers: `setup python`"
        answer = printed_line(
            python, "-c", f"import {self.package.replace('-', '_')}; print('ok')", index=-1
        )
        return None if answer == "ok" else f"{self.package} cannot be imported: {answer}"

    def version(self) -> str:
        code = f"import importlib.metadata as m; print(m.version('{self.package}'))"
        return f"{self.package} {printed_line(str(peers_python()), '-c', code)}"

    def prepare(self, folder: Path) -> None:
        (folder.parent / "tmp").mkdir(exist_ok=True)

    def environment(self, folder: Path) -> dict[str, str]:
        # Spooled parts stay on the disk that is measured, not on a /tmp that may be memory.
        return {"STORE": str(folder), "TMPDIR": str(folder.parent / "tmp")}

    def command(self, folder: Path, port: int) -> list[str]:
        return uvicorn_command(str(peers_python()), self.app, port, self)


@dataclass
class Uvicorn(PythonPeer):
    """The obvious handler: receive() in a loop, each piece written in a thread."""

    family = "uvicorn"
    app = "plain:app"
    package = "uvicorn"
    abilities = frozenset({"chunked", "tls"})

    def upload(self, name: str, size: int) -> tuple[Step, ...]:
        return (Step("PUT", f"/files/{name}", body=True, framing=self.options.framing),)

    def small(self, size: int) -> SmallRequest:
        return SmallRequest("POST", "/files/")


@dataclass
class FastApi(PythonPeer):
    """`UploadFile`, then a copy to the destination, as its documentation shows."""

    family = "fastapi"
    app = "fastapi_upload:app"
    package = "fastapi"

    def upload(self, name: str, size: int) -> tuple[Step, ...]:
        return form_upload("/upload", name)


@dataclass
class Tuspyserver(PythonPeer):
    family = "tuspyserver"
    app = "tuspy_app:app"
    package = "tuspyserver"

    def upload(self, name: str, size: int) -> tuple[Step, ...]:
        return tus_upload("/files", size, self.options.piece)

    def small(self, size: int) -> SmallRequest:
        return tus_small("/files", size)
