"""The run as Markdown tables for people and as JSON for programs."""

import json
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.results import LatencyRow, Results, Row, Startup, latency_rows, rows
from bench.targets import Verdict, verdicts

MIB = 1 << 20
RATES = ("small", "tus-small")
"""Scenarios whose number is requests a second."""


def machine(folder: Path) -> dict[str, Any]:
    """What of the machine matters to read the numbers; nothing that names it."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": _first_value("/proc/cpuinfo", "model name"),
        "memory_gib": round(int(_first_value("/proc/meminfo", "MemTotal").split()[0]) / MIB, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "filesystem": _filesystem(folder),
        "load_before": os.getloadavg()[0],
    }


def _first_value(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "0"


def _filesystem(folder: Path) -> str:
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, name = line.split()[:3]
        inside = folder.is_relative_to(place)
        if inside and len(place) >= len(best):
            best, kind = place, name
    return kind


def table(header: list[str], lines: Iterable[list[str]]) -> Iterator[str]:
    widths = [len(text) for text in header]
    body = list(lines)
    for line in body:
        widths = [max(width, len(text)) for width, text in zip(widths, line, strict=True)]
    for index, line in enumerate([header, ["-" * width for width in widths], *body]):
        fill = "-" if index == 1 else " "
        cells = [text.ljust(width, fill) for text, width in zip(line, widths, strict=True)]
        yield "| " + " | ".join(cells) + " |"


def _ratio(value: float, base: float | None) -> str:
    return f"{value / base:.2f}" if base else ""


def _base(group: list[Row]) -> Row | None:
    """What the others are compared with: a floor, else nginx, else the first."""
    for prefix in ("floor", "nginx"):
        for row in group:
            if row.contender.startswith(prefix):
                return row
    return group[0] if group else None


def _whole_files(group: list[Row]) -> Iterator[str]:
    base = _base(group)
    assert base is not None
    header = ["contender", "GB/s median", "range", f"of {base.contender}", "CPU s/GB"]
    header += [f"CPU of {base.contender}", "peak RSS MiB", "above idle MiB"]
    lines = []
    for row in sorted(group, key=lambda row: -row.gb_per_s):
        lines.append(
            [
                row.contender,
                f"{row.gb_per_s:.2f}",
                f"{row.gb_per_s_low:.2f} to {row.gb_per_s_high:.2f}",
                _ratio(row.gb_per_s, base.gb_per_s),
                f"{row.cpu_s_per_gb:.2f}",
                _ratio(row.cpu_s_per_gb, base.cpu_s_per_gb),
                f"{row.peak_rss / MIB:.0f}",
                f"{row.rss_above_idle / MIB:.1f}",
            ]
        )
    yield from table(header, lines)


def _small_files(group: list[Row]) -> Iterator[str]:
    base = _base(group)
    assert base is not None
    header = ["contender", "requests/s median", "range", f"of {base.contender}"]
    header += ["CPU ms per request", "peak RSS MiB"]
    lines = []
    for row in sorted(group, key=lambda row: -row.requests_per_s):
        lines.append(
            [
                row.contender,
                f"{row.requests_per_s:,.0f}",
                f"{row.requests_per_s_low:,.0f} to {row.requests_per_s_high:,.0f}",
                _ratio(row.requests_per_s, base.requests_per_s),
                f"{row.cpu_ms_per_request:.3f}",
                f"{row.peak_rss / MIB:.0f}",
            ]
        )
    yield from table(header, lines)


def _latencies(group: list[LatencyRow]) -> Iterator[str]:
    header = ["contender", "p50 ms", "p99 ms", "range of p99", "worst ms", "measured"]
    lines = []
    for row in group:
        p50, p99, low, high, worst = (
            f"{seconds * 1e3:.2f}"
            for seconds in (row.p50, row.p99, row.p99_low, row.p99_high, row.worst)
        )
        lines.append([row.contender, p50, p99, f"{low} to {high}", worst, f"{row.count:,}"])
    yield from table(header, lines)


def _startups(group: list[Startup]) -> Iterator[str]:
    header = ["contender", "seconds to the first answer", "peak RSS MiB"]
    lines = ([s.contender, f"{s.seconds:.1f}", f"{s.peak_rss / MIB:.0f}"] for s in group)
    yield from table(header, lines)


def _noise(group: list[Row]) -> Iterator[str]:
    """A warning when rounds differ so much that something else must have been running."""
    uneven = [
        row.contender for row in group if row.requests_per_s_high > 1.5 * row.requests_per_s_low
    ]
    if uneven:
        yield f"**Uneven, not to be quoted:** rounds differ by more than half: {', '.join(uneven)}."
        yield ""


def _verdict_lines(found: Iterable[Verdict]) -> Iterator[list[str]]:
    for verdict in found:
        goal = "" if verdict.sense == "report" else f"{verdict.sense} {verdict.limit:g}"
        value = "not measured" if verdict.value is None else f"{verdict.value:.2f}"
        outcome = {True: "met", False: "MISSED", None: ""}[verdict.met]
        yield [verdict.scenario, verdict.text, goal, value, outcome]


def markdown(results: Results) -> str:
    """The whole report."""
    all_rows = rows(results.samples)
    out: list[str] = []
    described = ", ".join(f"{key} {value}" for key, value in results.machine.items())
    out += [f"Machine: {described}", ""]
    described = ", ".join(f"{key} {value}" for key, value in results.settings.items())
    out += [f"Settings: {described}", ""]
    for scenario, case in dict.fromkeys((row.scenario, row.case) for row in all_rows):
        group = [row for row in all_rows if (row.scenario, row.case) == (scenario, case)]
        out += [f"### {scenario}: {case}, {max(row.rounds for row in group)} round(s)", ""]
        out += [*(_small_files(group) if scenario in RATES else _whole_files(group)), ""]
        out += _noise(group)
    out += _latency_sections(results)
    facts = [[f.name, f.language, f.version, f.durability] for f in results.facts.values()]
    if facts:
        out += ["### Contenders", ""]
        out += [*table(["name", "language", "version", "an answer means"], facts), ""]
    if results.missing:
        out += ["### Not here", ""]
        out += [*table(["name", "why"], ([k, v] for k, v in results.missing.items())), ""]
    if results.failures:
        failed = ([f.scenario, f.case, f.contender, _cell(f.reason)] for f in results.failures)
        out += ["### Failed", "", *table(["scenario", "case", "name", "why"], failed), ""]
    targets = list(_verdict_lines(verdicts(all_rows, latency_rows(results.latencies))))
    if targets:
        out += ["### Targets", ""]
        out += [*table(["scenario", "Forebay's", "goal", "found", ""], targets), ""]
    return "\n".join(out)


def _latency_sections(results: Results) -> Iterator[str]:
    all_rows = latency_rows(results.latencies)
    for scenario, case in dict.fromkeys((row.scenario, row.case) for row in all_rows):
        group = [row for row in all_rows if (row.scenario, row.case) == (scenario, case)]
        yield f"### {scenario}: {case}, {max(row.rounds for row in group)} round(s)"
        yield ""
        yield from _latencies(group)
        yield ""
    for scenario in dict.fromkeys(startup.scenario for startup in results.startups):
        yield f"### {scenario}: the start"
        yield ""
        yield from _startups([s for s in results.startups if s.scenario == scenario])
        yield ""


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())[:240]


def as_json(results: Results) -> str:
    all_rows, latencies = rows(results.samples), latency_rows(results.latencies)
    document = {
        **asdict(results),
        "rows": [row.to_json() for row in all_rows],
        "latency_rows": [row.to_json() for row in latencies],
        "targets": [verdict.to_json() for verdict in verdicts(all_rows, latencies)],
    }
    return json.dumps(document, indent=1)
