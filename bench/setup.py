"""`python -m bench setup`: builds and installs the contenders that this machine can have."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench.contenders import CONTENDERS
from bench.paths import BENCH, BIN, BUILD, NODE, PEERS, peers_python, program

TUSD = "github.com/tus/tusd/v2/cmd/tusd@v2.9.2"
PYTHON_PEERS = ("uvicorn", "uvloop", "httptools", "fastapi", "python-multipart", "tuspyserver")
PROFILER = "py-spy"
NODE_PEERS = ("@tus/server@2.4.5", "@tus/file-store@2.1.1")
CRATES = {"rustus": "rustus", "irondrop": "irondrop"}


class SetupFailed(Exception):
    """A step ended with an error; the message is its last line."""


def _run(command: list[str], cwd: Path = BUILD, **environment: str) -> None:
    """Runs one step at the lowest priority, output to a log file."""
    log = BUILD / "setup.log"
    with log.open("ab") as output:
        try:
            done = subprocess.run(
                ["nice", "-n", "19", *command],
                cwd=cwd,
                env={**os.environ, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        except OSError as error:
            raise SetupFailed(str(error)) from error
    if done.returncode != 0:
        tail = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise SetupFailed(" / ".join(tail[-2:])[-300:])


def _need(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise SetupFailed(f"no {name} on PATH")
    return path


def floor() -> None:
    compiler = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if compiler is None:
        raise SetupFailed("no C compiler on PATH")
    source = str(BENCH / "c" / "floor.c")
    _run([compiler, "-O2", "-Wall", "-Wextra", "-pthread", "-o", str(BIN / "floor"), source])


def python() -> None:
    if not peers_python().exists():
        _run([sys.executable, "-m", "venv", str(PEERS)])
    pip = [str(peers_python()), "-m", "pip", "install", "--quiet"]
    _run([*pip, *PYTHON_PEERS])
    _run([*pip, PROFILER])


def tusd() -> None:
    _run([_need("go"), "install", "-p", "1", TUSD], GOBIN=str(BIN), GOMAXPROCS="1")


def tus_node() -> None:
    _need("node")
    NODE.mkdir(exist_ok=True)
    command = [_need("npm"), "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    _run([*command, "--prefix", str(NODE), *NODE_PEERS], cwd=NODE)


def crate(name: str) -> Callable[[], None]:
    def install() -> None:
        command = [_need("cargo"), "install", "--jobs", "1", "--root", str(BUILD)]
        target = str(BUILD / "cargo-target")
        _run([*command, "--target-dir", target, CRATES[name]])

    return install


def system(name: str) -> Callable[[], None]:
    """What the distribution brings is only looked for."""

    def look() -> None:
        if program(name) is None:
            raise SetupFailed(f"no {name} on PATH: install the distribution's package")

    return look


STEPS: dict[str, Callable[[], None]] = {
    "floor": floor,
    "nginx": system("nginx"),
    "wrk": system("wrk"),
    "openssl": system("openssl"),
    "python": python,
    "tusd": tusd,
    "tus-node": tus_node,
    "rustus": crate("rustus"),
    "irondrop": crate("irondrop"),
}


def setup(names: tuple[str, ...], skip: tuple[str, ...]) -> int:
    """Does the steps, says what became of each, then who can take part. 0 when all went well."""
    BIN.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name, step in STEPS.items():
        if (names and name not in names) or name in skip:
            continue
        print(f"{name}: ", end="", flush=True)
        try:
            step()
        except SetupFailed as error:
            failed += 1
            print(f"MISSING: {error}")
        else:
            print("ready")
    print()
    for family, kind in CONTENDERS.items():
        reason = kind().missing()
        print(f"{family:12} {'can take part' if reason is None else reason}")
    return 1 if failed else 0
