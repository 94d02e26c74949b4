"""The scenarios that send whole files and look at the clock."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from bench.contenders import CONTENDERS, Contender, Options
from bench.job import Framing
from bench.run import Run, make_certificate
from bench.servers import Server, ServerFailed

EVERYBODY = tuple(name for name in CONTENDERS if name != "forebay-asgi")


def size_name(size: int) -> str:
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << power:
            return f"{size / (1 << power):g} {unit}"
    return f"{size} B"


@dataclass
class Uploads:
    """`count` uploads of `size` bytes at once, by each of the contenders in turn."""

    scenario: str
    contenders: list[Contender]
    size: int
    count: int = 1
    note: str = ""

    @property
    def case(self) -> str:
        size = size_name(self.size)
        return (size if self.count == 1 else f"{self.count} x {size}") + self.note

    def run(self, run: Run) -> None:
        run.say(f"{self.scenario}: {self.case}")
        with run.servers(self.scenario, self.case, self.contenders) as servers:
            ready = [server for server in servers if self.warm_up(run, server)]
            run.interleave(self.scenario, self.case, ready, self.once(run))

    def warm_up(self, run: Run, server: Server) -> bool:
        """One upload that does not count, compared byte for byte by its digest."""
        try:
            run.client(run.job(server, self.size, 1, "warm"))
            server.check(self.size, 1)
            server.check_digest(self.size, run.sources.digest(self.size))
        except (ServerFailed, OSError) as error:
            run.fail(self.scenario, self.case, server.contender, f"warm-up: {error}")
            return False
        finally:
            server.clean()
        return True

    def once(self, run: Run) -> Callable[[Server, int], None]:
        def action(server: Server, number: int) -> None:
            job = run.job(server, self.size, self.count, str(number))
            run.measure(self.scenario, self.case, server, number, job)
            server.check(self.size, self.count)

        return action


def one(run: Run) -> None:
    Uploads("one", run.select(EVERYBODY), run.settings.size).run(run)


def sixteen(run: Run) -> None:
    settings = run.settings
    Uploads("sixteen", run.select(EVERYBODY), settings.many_size, settings.many).run(run)


def strict(run: Run) -> None:
    synced = Options(label="strict", strict=True)
    fdatasync = Options(label="fdatasync", strict=True)
    contenders = run.select(["floor"], fdatasync) + run.select(["forebay"], synced)
    contenders += run.select(["irondrop"])
    Uploads("strict", contenders, run.settings.size).run(run)


def tls(run: Run) -> None:
    certificate = make_certificate(run.base)
    if certificate is None:
        run.results.missing["tls"] = "no openssl to make a certificate with"
        return
    over = Options(label="tls", certificate=certificate)
    contenders = run.select(["forebay", "forebay-asgi", "uvicorn", "nginx", "tusd"], over)
    contenders += run.select(["forebay-asgi", "uvicorn"])
    Uploads("tls", contenders, run.settings.size).run(run)


def digest(run: Run) -> None:
    wanted = Options(label="sha-256", headers=(("Want-Repr-Digest", "sha-256=10"),))
    contenders = run.select(["forebay"]) + run.select(["forebay"], wanted)
    Uploads("digest", contenders, run.settings.size).run(run)


FRAMINGS: Iterable[tuple[str, Framing]] = (
    ("", "length"),
    ("64 KiB chunks", "chunks"),
    ("one chunk", "one-chunk"),
)


def chunked(run: Run) -> None:
    contenders = []
    for family in ("forebay", "nginx", "uvicorn"):
        for label, framing in FRAMINGS:
            contenders += run.select([family], replace(Options(), label=label, framing=framing))
    Uploads("chunked", contenders, run.settings.size).run(run)


TUS_PEERS = ("tusd", "rustus", "tus-node", "tuspyserver")


def tus(run: Run) -> None:
    """The whole in one PATCH, and in many on one connection, beside our own raw PUT."""
    piece = run.settings.piece
    pieces = size_name(piece)
    whole = Options(label="tus", tus=True)
    many = Options(label=f"tus {pieces}", tus=True, piece=piece)
    contenders = run.select(["forebay"])
    contenders += run.select(["forebay"], whole) + run.select(["forebay"], many)
    contenders += run.select(TUS_PEERS)
    contenders += run.select(TUS_PEERS, Options(label=pieces, piece=piece))
    Uploads("tus", contenders, run.settings.size).run(run)
    synced = []
    for options in (Options(), whole, many):
        label = f"strict {options.label}".strip()
        synced += run.select(["forebay"], replace(options, label=label, strict=True))
    Uploads("tus", synced, run.settings.size, note=", strict").run(run)
