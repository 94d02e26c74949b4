"""IronDrop (Rust): a file server that takes raw uploads."""

from dataclasses import dataclass
from pathlib import Path

from bench.contenders.base import Contender, printed_line
from bench.job import Step
from bench.paths import program


@dataclass
class IronDrop(Contender):
    family = "irondrop"
    language = "Rust"

    def durability(self) -> str:
        return "fsync of the file"

    def missing(self) -> str | None:
        if program("irondrop"):
            return None
        return "no irondrop on PATH or from `setup irondrop` (cargo install, a long compile)"

    def version(self) -> str:
        return printed_line(program("irondrop") or "irondrop", "--version")

    def command(self, folder: Path, port: int) -> list[str]:
        command = [program("irondrop") or "irondrop", "--directory", str(folder)]
        command += ["--listen", "127.0.0.1", "--port", str(port)]
        command += ["--enable-upload", "true", "--allowed-extensions", "*"]
        command += ["--max-upload-size", "20480", "--threads", "32"]
        # Off, and still it answers only 10 of 16 uploads at once from one address.
        return [*command, "--disable-rate-limit", "true", "--log-dir", str(folder.parent)]

    def upload(self, name: str, size: int) -> tuple[Step, ...]:
        return (Step("POST", "/_irondrop/upload", (("X-Filename", name),), body=True),)
