"""`python -m bench`: all contenders, all scenarios, one table. See docs/performance.md."""

import argparse
import dataclasses
import resource
import shutil
import sys
import tempfile
from pathlib import Path

from bench.contenders import CONTENDERS
from bench.paths import BUILD, ENDED, RESULTS
from bench.profile_server import profile
from bench.report import as_json, machine, markdown
from bench.run import Run, Settings
from bench.scenarios import SCENARIOS
from bench.setup import STEPS, floor, setup
from bench.sources import Sources

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def byte_count(text: str) -> int:
    for unit, factor in UNITS.items():
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * factor)
    return int(text)


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--scenario",
        nargs="+",
        default=["all"],
        choices=[*SCENARIOS, "all"],
        metavar="NAME",
        help="one or more of: " + ", ".join(SCENARIOS) + ", all",
    )
    parser.add_argument(
        "--contender",
        nargs="+",
        default=[],
        choices=list(CONTENDERS),
        metavar="NAME",
        help="only these: " + ", ".join(CONTENDERS),
    )
    parser.add_argument("--rounds", type=int, help="rounds per scenario (5; 3 with --quick)")
    parser.add_argument("--size", type=byte_count, help="size of a large upload (1GiB)")
    parser.add_argument("--dir", type=Path, help="where the servers store (bench/.build)")
    parser.add_argument("--json", type=Path, default=RESULTS / "latest.json", metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here too")
    parser.add_argument("--quick", action="store_true", help="128 MiB, 3 rounds: for a look")
    commands = parser.add_subparsers(dest="command")
    installing = commands.add_parser("setup", help="build and install the contenders")
    installing.add_argument("names", nargs="*", choices=[*STEPS, []], metavar="NAME")
    installing.add_argument("--skip", nargs="+", default=[], choices=list(STEPS), metavar="NAME")
    profiling = commands.add_parser("profile", help="a flame graph of a Python contender")
    profiling.add_argument("name", choices=list(CONTENDERS), metavar="NAME")
    profiling.add_argument("--seconds", type=float, default=10.0)
    return parser.parse_args(argv)


def settings(args: argparse.Namespace) -> Settings:
    quick = args.quick
    size = args.size or (128 << 20 if quick else 1 << 30)
    return Settings(
        rounds=args.rounds or (3 if quick else 5),
        size=size,
        many=16,
        many_size=size // 8,
        small_seconds=2 if quick else 5,
        slow_seconds=12 if quick else 24,
        memory_size=size * 10,
        piece=8 << 20,
        unfinished=(10, 10_000) if quick else (10, 10_000, 1_000_000),
        heads=500 if quick else 2000,
        takeovers=20 if quick else 100,
        families=tuple(args.contender),
    )


def raise_file_limit() -> None:
    """1,000 connections need as many descriptors, in the client and in each server."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1 << 16), hard))


def run_scenarios(run: Run, names: list[str]) -> None:
    for name in SCENARIOS:
        if "all" in names or name in names:
            SCENARIOS[name](run)


def main(argv: list[str]) -> int:
    args = arguments(argv)
    if args.command == "setup":
        return setup(tuple(args.names), tuple(args.skip))
    raise_file_limit()
    parent = args.dir or BUILD
    parent.mkdir(parents=True, exist_ok=True)
    base = Path(tempfile.mkdtemp(prefix="run-", dir=parent)).resolve()
    if CONTENDERS["floor"]().missing() and shutil.which("cc"):
        (BUILD / "bin").mkdir(parents=True, exist_ok=True)
        floor()
    sources = Sources()
    run = Run(settings(args), base, sources)
    try:
        if args.command == "profile":
            return profile(run, args.name, args.seconds)
        run.results.machine = machine(base)
        run.results.settings = dataclasses.asdict(run.settings)
        try:
            run_scenarios(run, args.scenario)
        except KeyboardInterrupt:
            run.say("interrupted: what was measured so far follows")
        text = markdown(run.results)
        print(text)
        if args.markdown:
            args.markdown.write_text(text)
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(as_json(run.results))
        run.say(f"JSON: {args.json}")
    finally:
        sources.remove()
        shutil.rmtree(base, ignore_errors=True)
        if run.crowded:
            ENDED.touch()
    return 1 if run.results.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
