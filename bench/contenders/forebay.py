"""Ours: the command line server, and the same application under plain uvicorn."""

import subprocess
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
from bench.job import Step
from bench.paths import APPS, ROOT, forebay_program, project_python

UPLOADS = "/uploads/"


@dataclass
class Forebay(Contender):
    family = "forebay"
    language = "Python"
    abilities = frozenset({"chunked", "tls", "download"})

    def durability(self) -> str:
        if self.options.strict:
            return "strict: file and folder synced before the answer"
        return "relaxed: atomic publication, no sync"

    def missing(self) -> str | None:
        program = forebay_program()
        if not program.exists():
            return "no .venv/bin/forebay: install the project into .venv"
        if not printed_line(str(program), "serve", "--help").lower().startswith("usage"):
            return "`forebay serve` does not start yet"
        return None

    def version(self) -> str:
        return printed_line(str(forebay_program()), "--version")

    def command(self, folder: Path, port: int) -> list[str]:
        durability = "strict" if self.options.strict else "relaxed"
        command = [str(forebay_program()), "serve", str(folder)]
        # Nobody here writes a line per request.
        command += ["--port", str(port), "--durability", durability, "--no-access-log"]
        command += ["--workers", str(self.options.workers), *self.options.arguments]
        if self.options.certificate:
            command += ["--ssl-certfile", str(self.options.certificate.cert)]
            command += ["--ssl-keyfile", str(self.options.certificate.key)]
        return command

    def prepare(self, folder: Path) -> None:
        if self.options.unfinished:
            command = [str(project_python()), "-m", "bench.unfinished", str(folder)]
            command += [str(self.options.unfinished), str(ids_file(folder))]
            subprocess.run(command, cwd=ROOT, check=True)

    def upload(self, name: str, size: int) -> tuple[Step, ...]:
        if self.options.tus:
            return tus_upload(UPLOADS, size, self.options.piece)
        if self.options.form:
            return form_upload("/files/", name, self.options.fields)
        headers = self.options.headers
        path = f"/files/{name}"
        return (Step("PUT", path, headers, body=True, framing=self.options.framing),)

    def small(self, size: int) -> SmallRequest:
        return tus_small(UPLOADS, size) if self.options.tus else SmallRequest("POST", "/files/")

    def download_path(self, name: str, stored: Path) -> str:
        return f"/files/{name}"


def ids_file(folder: Path) -> Path:
    """Where the ids are of the uploads that were begun before the start, one a line."""
    return folder.parent / "unfinished-ids"


@dataclass
class ForebayUnderUvicorn(Forebay):
    """Without our protocol class: the pump is fed from receive()."""

    family = "forebay-asgi"

    def missing(self) -> str | None:
        python = str(project_python())
        answer = printed_line(python, "-c", "import forebay.http.app; print('ok')", index=-1)
        return None if answer == "ok" else f"the application cannot be imported yet: {answer}"

    def environment(self, folder: Path) -> dict[str, str]:
        return {"STORE": str(folder), "DURABILITY": "strict" if self.options.strict else "relaxed"}

    def command(self, folder: Path, port: int) -> list[str]:
        return uvicorn_command(str(project_python()), "ours:app", port, self)


def uvicorn_command(python: str, app: str, port: int, contender: Contender) -> list[str]:
    """uvicorn as it comes, with its fast parser and loop, one worker and no access log."""
    command = [python, "-m", "uvicorn", "--app-dir", str(APPS), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--http", "httptools", "--loop", "uvloop"]
    command += ["--no-access-log", "--log-level", "warning", app]
    certificate = contender.options.certificate
    if certificate:
        command += ["--ssl-certfile", str(certificate.cert), "--ssl-keyfile", str(certificate.key)]
    return command
