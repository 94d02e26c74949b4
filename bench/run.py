"""One run of the bench: its sources, its servers, its client processes, its samples."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.contenders import CONTENDERS, Certificate, Contender, Options
from bench.job import Job
from bench.measure import usage_of
from bench.paths import ROOT
from bench.results import Fact, Failure, Latencies, Results, Sample, percentile
from bench.servers import Server, ServerFailed, python_process
from bench.sources import Sources


@dataclass(frozen=True)
class Settings:
    rounds: int
    size: int
    many: int
    many_size: int
    small_seconds: float
    slow_seconds: float
    memory_size: int
    piece: int
    unfinished: tuple[int, ...]
    heads: int
    takeovers: int
    families: tuple[str, ...]


@dataclass
class Run:
    settings: Settings
    base: Path
    sources: Sources
    results: Results = field(default_factory=Results)
    crowded: bool = False
    """Very many files were made; `base` is deleted at the end of the run."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def select(self, families: Iterable[str], options: Options | None = None) -> list[Contender]:
        """Those of the families that were asked for and can run; the missing are named."""
        chosen = []
        for family in families:
            if self.settings.families and family not in self.settings.families:
                continue
            contender = CONTENDERS[family](options or Options())
            reason = contender.missing()
            if reason is None:
                chosen.append(contender)
            else:
                self.results.missing[family] = reason
        return chosen

    def fail(self, scenario: str, case: str, contender: Contender, reason: object) -> None:
        self.say(f"  {contender.name}: FAILED: {reason}")
        self.results.failures.append(Failure(scenario, case, contender.name, str(reason)))

    @contextmanager
    def servers(
        self, scenario: str, case: str, contenders: Iterable[Contender], *, many: bool = False
    ) -> Iterator[list[Server]]:
        """Starts each contender; one that does not start is recorded and left out.

        `many`: their files are deleted at the end of the run only, because deleting 100,000
        slows whoever makes files in the next minutes (see `Server.set_aside`).
        """
        base = Path(tempfile.mkdtemp(prefix=f"{scenario}-", dir=self.base))
        with ExitStack() as stack:
            if many:
                self.crowded = True
            else:
                stack.callback(shutil.rmtree, base, ignore_errors=True)
            running = []
            for contender in contenders:
                try:
                    server = Server.start(contender, base)
                except (ServerFailed, OSError, subprocess.CalledProcessError) as error:
                    self.fail(scenario, case, contender, error)
                    continue
                stack.callback(server.stop)
                running.append(server)
                self.results.facts.setdefault(
                    contender.name,
                    Fact(
                        contender.name,
                        contender.language,
                        contender.version(),
                        contender.durability(),
                    ),
                )
            yield running

    def client(self, job: Job) -> dict[str, Any]:
        """Runs a client process to its end. Raises ServerFailed when an upload went wrong."""
        done = subprocess.run(
            python_process("bench.clients"),
            input=json.dumps(job.to_json()),
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        if done.returncode != 0:
            raise ServerFailed(f"the client failed: {done.stderr[-400:]}")
        answer: dict[str, Any] = json.loads(done.stdout)
        if "error" in answer:
            raise ServerFailed(answer["error"])
        return answer

    def job(self, server: Server, size: int, count: int, tag: str) -> Job:
        """The uploads of `count` files of `size` bytes, all at once."""
        contender = server.contender
        names = [f"bench-{tag}-{number}.bin" for number in range(count)]
        return Job(
            kind="upload",
            port=server.port,
            source=self.sources.path(size, contender.options.framing),
            size=size,
            uploads=tuple(contender.upload(name, size) for name in names),
            certificate=certificate_path(contender),
        )

    def measure_latencies(
        self, scenario: str, case: str, server: Server, number: int, job: Job
    ) -> None:
        """Runs a job that times each of its requests. Nothing is recorded when it fails."""
        found = sorted(self.client(job)["latencies"])
        one = Latencies(
            scenario=scenario,
            case=case,
            contender=server.contender.name,
            round=number,
            count=len(found),
            p50=percentile(found, 50),
            p99=percentile(found, 99),
            worst=found[-1],
        )
        self.results.latencies.append(one)
        shown = f"p50 {one.p50 * 1e3:.2f} ms, p99 {one.p99 * 1e3:.2f} ms"
        self.say(f"  round {number + 1} {server.contender.name}: {shown}")

    def measure(self, scenario: str, case: str, server: Server, number: int, job: Job) -> Sample:
        """Runs a job and records what it cost. Nothing is recorded when it fails."""
        with usage_of(server.pid) as usage:
            answer = self.client(job)
        sample = Sample(
            scenario=scenario,
            case=case,
            contender=server.contender.name,
            round=number,
            seconds=answer["seconds"],
            bytes=job.size * len(job.uploads),
            requests=len(job.uploads),
            cpu_seconds=usage.cpu_seconds,
            idle_rss=usage.idle_rss,
            peak_rss=usage.peak_rss,
        )
        self.results.samples.append(sample)
        speed = sample.bytes / sample.seconds / 1e9
        self.say(f"  round {number + 1} {server.contender.name}: {speed:.2f} GB/s")
        return sample

    def interleave(
        self,
        scenario: str,
        case: str,
        servers: list[Server],
        action: Callable[[Server, int], object],
        after: Callable[[Server], None] = Server.clean,
    ) -> None:
        """Rounds over all servers, each round beginning with another one; a failed one drops out.

        `after` follows each action, outside of what is measured: it deletes what was stored.
        """
        left = list(servers)
        for number in range(self.settings.rounds):
            shift = number % max(1, len(left))
            for server in left[shift:] + left[:shift]:
                try:
                    action(server, number)
                except (ServerFailed, OSError) as error:
                    self.fail(scenario, case, server.contender, error)
                    left.remove(server)
                finally:
                    after(server)
                    os.sync()


def certificate_path(contender: Contender) -> str | None:
    certificate = contender.options.certificate
    return str(certificate.cert) if certificate else None


def make_certificate(folder: Path) -> Certificate | None:
    """A self-signed certificate for 127.0.0.1, or None where openssl is missing."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(cert), "-keyout", str(key)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return Certificate(cert, key)
