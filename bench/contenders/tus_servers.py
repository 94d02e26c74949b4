"""tus servers in other languages: tusd (Go), @tus/server (Node), rustus (Rust)."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from bench.contenders.base import Contender, SmallRequest, printed_line, tus_small, tus_upload
from bench.job import Step
from bench.paths import APPS, NODE, program


@dataclass
class Tusd(Contender):
    family = "tusd"
    language = "Go"
    abilities = frozenset({"download", "tls"})

    def missing(self) -> str | None:
        if program("tusd"):
            return None
        return "no tusd on PATH or from `setup tusd` (go install)"

    def version(self) -> str:
        return f"tusd {printed_line(program('tusd') or 'tusd', '-version')}"

    def command(self, folder: Path, port: int) -> list[str]:
        command = [program("tusd") or "tusd", "-host", "127.0.0.1", "-port", str(port)]
        command += ["-upload-dir", str(folder), "-base-path", "/files/"]
        command += ["-verbose=false", "-show-greeting=false", *self.options.arguments]
        certificate = self.options.certificate
        if certificate:
            command += ["-tls-certificate", str(certificate.cert)]
            command += ["-tls-key", str(certificate.key), "-tls-mode", "tls13"]
        return command

    def upload(self, name: str, size: int) -> tuple[Step, ...]:
        return tus_upload("/files/", size, self.options.piece)

    def small(self, size: int) -> SmallRequest:
        return tus_small("/files/", size)

    def download_path(self, name: str, stored: Path) -> str:
        return f"/files/{stored.name}"


@dataclass
class TusNode(Contender):
    family = "tus-node"
    language = "Node"

    def missing(self) -> str | None:
        if program("node") is None:
            return "no node on PATH"
        if not (NODE / "node_modules" / "@tus" / "server").exists():
            return "@tus/server is not installed: `setup tus-node` (npm)"
        return None

    def version(self) -> str:
        package = NODE / "node_modules" / "@tus" / "server" / "package.json"
        return f"@tus/server {json.loads(package.read_text())['version']}"

    def prepare(self, folder: Path) -> None:
        # Node resolves modules from where the script lies, so the script goes beside them.
        shutil.copy(APPS / "tus_node.mjs", NODE / "tus_node.mjs")

    def command(self, folder: Path, port: int) -> list[str]:
        return [program("node") or "node", str(NODE / "tus_node.mjs"), str(folder), str(port)]

    def upload(self, name: str, size: int) -> tuple[Step, ...]:
        return tus_upload("/files", size, self.options.piece)

    def small(self, size: int) -> SmallRequest:
        return tus_small("/files", size)


@dataclass
class Rustus(Contender):
    family = "rustus"
    language = "Rust"

    def missing(self) -> str | None:
        if program("rustus"):
            return None
        return "no rustus on PATH or from `setup rustus` (cargo install, a long compile)"

    def version(self) -> str:
        return printed_line(program("rustus") or "rustus", "--version")

    def prepare(self, folder: Path) -> None:
        (folder.parent / "info").mkdir(exist_ok=True)

    def command(self, folder: Path, port: int) -> list[str]:
        command = [program("rustus") or "rustus", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--data-dir", str(folder), "--info-dir", str(folder.parent / "info")]
        # Its limit of 256 KiB per request would make 4,096 requests of one GiB. It holds each
        # body in memory.
        return [*command, "--log-level", "ERROR", "--max-body-size", str(1 << 40)]

    def upload(self, name: str, size: int) -> tuple[Step, ...]:
        return tus_upload("/files", size, self.options.piece)
