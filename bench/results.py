"""The values a run collects: samples, and rows that sum them up."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Sample:
    """One measured run of one contender."""

    scenario: str
    case: str
    contender: str
    round: int
    seconds: float
    bytes: int
    requests: int
    cpu_seconds: float
    idle_rss: int
    peak_rss: int


@dataclass(frozen=True)
class Latencies:
    """How long the requests of one round took, in seconds."""

    scenario: str
    case: str
    contender: str
    round: int
    count: int
    p50: float
    p99: float
    worst: float


@dataclass(frozen=True)
class Startup:
    """From the start of a server's process to its first answer."""

    scenario: str
    contender: str
    seconds: float
    peak_rss: int


@dataclass(frozen=True)
class Failure:
    scenario: str
    case: str
    contender: str
    reason: str


@dataclass(frozen=True)
class Fact:
    """What is known of a contender beside its numbers."""

    name: str
    language: str
    version: str
    durability: str


@dataclass
class Results:
    samples: list[Sample] = field(default_factory=list)
    latencies: list[Latencies] = field(default_factory=list)
    startups: list[Startup] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    facts: dict[str, Fact] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """All rounds of one contender in one case. GB are 10^9 bytes; memory is in bytes."""

    scenario: str
    case: str
    contender: str
    rounds: int
    gb_per_s: float
    gb_per_s_low: float
    gb_per_s_high: float
    requests_per_s: float
    requests_per_s_low: float
    requests_per_s_high: float
    seconds: float
    cpu_s_per_gb: float
    cpu_ms_per_request: float
    peak_rss: int
    rss_above_idle: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def rows(samples: Iterable[Sample]) -> list[Row]:
    """One row per scenario, case and contender, in the order they first came."""
    groups: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.scenario, sample.case, sample.contender), []).append(sample)
    return [_row(*key, group) for key, group in groups.items()]


def _row(scenario: str, case: str, contender: str, group: list[Sample]) -> Row:
    speeds = [s.bytes / s.seconds / 1e9 for s in group]
    rates = [s.requests / s.seconds for s in group]
    return Row(
        scenario=scenario,
        case=case,
        contender=contender,
        rounds=len(group),
        gb_per_s=median(speeds),
        gb_per_s_low=min(speeds),
        gb_per_s_high=max(speeds),
        requests_per_s=median(rates),
        requests_per_s_low=min(rates),
        requests_per_s_high=max(rates),
        seconds=median(s.seconds for s in group),
        cpu_s_per_gb=median(s.cpu_seconds / (s.bytes / 1e9) for s in group),
        cpu_ms_per_request=median(s.cpu_seconds / s.requests * 1e3 for s in group),
        peak_rss=max(s.peak_rss for s in group),
        rss_above_idle=max(s.peak_rss - s.idle_rss for s in group),
    )


@dataclass(frozen=True)
class LatencyRow:
    """All rounds of one contender in one case, in seconds: the medians of the rounds."""

    scenario: str
    case: str
    contender: str
    rounds: int
    count: int
    p50: float
    p99: float
    p99_low: float
    p99_high: float
    worst: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def latency_rows(rounds: Iterable[Latencies]) -> list[LatencyRow]:
    """One row per scenario, case and contender, in the order they first came."""
    groups: dict[tuple[str, str, str], list[Latencies]] = {}
    for one in rounds:
        groups.setdefault((one.scenario, one.case, one.contender), []).append(one)
    return [
        LatencyRow(
            *key,
            rounds=len(group),
            count=sum(one.count for one in group),
            p50=median(one.p50 for one in group),
            p99=median(one.p99 for one in group),
            p99_low=min(one.p99 for one in group),
            p99_high=max(one.p99 for one in group),
            worst=max(one.worst for one in group),
        )
        for key, group in groups.items()
    ]


def percentile(sorted_values: Sequence[float], percent: float) -> float:
    """The nearest rank: the smallest value that `percent` of all do not exceed."""
    rank = math.ceil(len(sorted_values) * percent / 100)
    return sorted_values[max(rank, 1) - 1]
