"""The numbers Forebay is held to, each judged from the rows of one run."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bench.results import LatencyRow, Row

Sense = Literal["at least", "at most", "report"]


@dataclass(frozen=True)
class Verdict:
    """One target, what was found, and whether it holds; None where it could not be judged."""

    scenario: str
    text: str
    sense: Sense
    limit: float
    value: float | None

    @property
    def met(self) -> bool | None:
        if self.value is None or self.sense == "report":
            return None
        return self.value >= self.limit if self.sense == "at least" else self.value <= self.limit

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


class Table:
    """Rows by scenario and contender."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def find(self, scenario: str, contender: str, case: str = "") -> Row | None:
        for row in self.rows:
            if (row.scenario, row.contender) == (scenario, contender) and case in row.case:
                return row
        return None

    def has(self, scenario: str) -> bool:
        return any(row.scenario == scenario for row in self.rows)

    def ratio(
        self, scenario: str, ours: str, other: str, key: Callable[[Row], float]
    ) -> float | None:
        first, second = self.find(scenario, ours), self.find(scenario, other)
        if first is None or second is None or not key(second):
            return None
        return key(first) / key(second)


def speed(row: Row) -> float:
    return row.gb_per_s


def cpu(row: Row) -> float:
    return row.cpu_s_per_gb


def wall(row: Row) -> float:
    return row.seconds


def rate(row: Row) -> float:
    return row.requests_per_s


RATIOS: tuple[tuple[str, str, Sense, float, str, str, Callable[[Row], float]], ...] = (
    ("one", "throughput of the floor", "at least", 0.80, "forebay", "floor", speed),
    ("one", "CPU per GB of the floor", "at most", 1.3, "forebay", "floor", cpu),
    ("one", "throughput of tusd", "at least", 2.0, "forebay", "tusd", speed),
    ("one", "throughput of nginx", "at least", 2.0, "forebay", "nginx", speed),
    ("sixteen", "throughput of the floor", "at least", 0.75, "forebay", "floor", speed),
    ("sixteen", "throughput of tusd", "at least", 1.4, "forebay", "tusd", speed),
    ("tls", "TLS: throughput of uvicorn", "report", 0, "forebay tls", "uvicorn tls", speed),
    ("tls", "under plain uvicorn: of uvicorn", "report", 0, "forebay-asgi", "uvicorn", speed),
    (
        "strict",
        "throughput of the floor with fdatasync",
        "at least",
        0.9,
        "forebay strict",
        "floor fdatasync",
        speed,
    ),
    ("digest", "wall time, sha-256 to none", "at most", 1.15, "forebay sha-256", "forebay", wall),
    (
        "chunked",
        "64 KiB chunks, of Content-Length",
        "at least",
        0.6,
        "forebay 64 KiB chunks",
        "forebay",
        speed,
    ),
    (
        "chunked",
        "one chunk, of Content-Length",
        "at least",
        0.6,
        "forebay one chunk",
        "forebay",
        speed,
    ),
    ("forms", "throughput of raw PUT", "at least", 0.8, "forebay form", "forebay", speed),
    ("forms", "throughput of UploadFile", "at least", 3.0, "forebay form", "fastapi", speed),
    ("forms", "CPU per GB of UploadFile", "at most", 1 / 3, "forebay form", "fastapi", cpu),
    (
        "forms",
        "under plain uvicorn: throughput of UploadFile",
        "at least",
        1.5,
        "forebay-asgi form",
        "fastapi",
        speed,
    ),
    ("small", "rate of tusd", "at least", 1.0, "forebay", "tusd", rate),
    ("small", "rate of nginx", "report", 0, "forebay", "nginx", rate),
    ("small", "rate of plain uvicorn", "report", 0, "forebay", "uvicorn", rate),
    ("tus", "one PATCH: throughput of raw PUT", "at least", 0.9, "forebay tus", "forebay", speed),
    (
        "tus",
        "8 MiB PATCHes: throughput of raw PUT",
        "at least",
        0.7,
        "forebay tus 8 MiB",
        "forebay",
        speed,
    ),
    ("tus", "one PATCH: throughput of tusd", "report", 0, "forebay tus", "tusd", speed),
    (
        "tus",
        "strict, one PATCH: of raw PUT",
        "report",
        0,
        "forebay strict tus",
        "forebay strict",
        speed,
    ),
    (
        "tus",
        "strict, 8 MiB PATCHes: of raw PUT",
        "report",
        0,
        "forebay strict tus 8 MiB",
        "forebay strict",
        speed,
    ),
    ("tus-small", "rate of tusd", "report", 0, "forebay tus", "tusd", rate),
    ("tus-small", "rate of raw POST", "report", 0, "forebay tus", "forebay", rate),
    ("download", "throughput of nginx", "at least", 0.9, "forebay", "nginx", speed),
)

MEMORY: tuple[tuple[str, str, str, str, float], ...] = (
    ("memory", "forebay", "GiB", "one large upload: MiB above idle", 8),
    ("memory", "forebay", "256 slow", "256 slow uploads: MiB above idle", 24),
    ("memory", "forebay", "1,000 slow", "1,000 slow uploads: MiB above idle", 48),
    ("forms", "forebay form", "10 GiB", "one large form: MiB above idle", 8),
    ("forms", "forebay form", "fields", "10,000 fields: MiB above idle", 8),
)


LATENCIES: tuple[tuple[str, str, Sense, float, str, str], ...] = (
    (
        "head",
        "p99 with 1,000,000 unfinished, of that with 10",
        "at most",
        2.0,
        "forebay 1,000,000 unfinished",
        "forebay 10 unfinished",
    ),
    (
        "head",
        "p99 with 10,000 unfinished, of that with 10",
        "report",
        0,
        "forebay 10,000 unfinished",
        "forebay 10 unfinished",
    ),
    ("takeover", "p99 of tusd", "report", 0, "forebay", "tusd"),
    ("takeover", "p99 of tusd polling often", "report", 0, "forebay", "tusd 10 ms polls"),
    ("takeover", "p99 between processes, of that in one", "report", 0, "forebay across", "forebay"),
)


def verdicts(rows: list[Row], latencies: list[LatencyRow]) -> Iterator[Verdict]:
    """Every target of the scenarios that ran."""
    table = Table(rows)
    for scenario, text, sense, limit, ours, other, key in RATIOS:
        if table.has(scenario):
            value = table.ratio(scenario, ours, other, key)
            yield Verdict(scenario, text, sense, limit, value)
    for scenario, ours, case, text, limit in MEMORY:
        if table.has(scenario):
            row = table.find(scenario, ours, case)
            value = row.rss_above_idle / (1 << 20) if row else None
            yield Verdict(scenario, text, "at most", limit, value)
    p99 = {(row.scenario, row.contender): row.p99 for row in latencies}
    for scenario, text, sense, limit, ours, other in LATENCIES:
        if any(row.scenario == scenario for row in latencies):
            first, second = p99.get((scenario, ours)), p99.get((scenario, other))
            value = first / second if first is not None and second else None
            yield Verdict(scenario, text, sense, limit, value)
