"""How long one request takes: HEAD among many uploads, and taking over a stalled one."""

import random
import time
from contextlib import ExitStack
from dataclasses import replace

from bench.contenders import Options
from bench.contenders.base import TUS
from bench.contenders.forebay import UPLOADS, ids_file
from bench.job import Job, Step
from bench.measure import ProcessTree
from bench.results import Startup
from bench.run import Run
from bench.scenarios.small import warn_of_deletions
from bench.scenarios.uploads import size_name
from bench.servers import Server, ServerFailed

TAKEOVER_SIZE = 8 << 20
POLLS = ("-filelock-holder-poll-interval=10ms", "-filelock-acquirer-poll-interval=10ms")
FEW = {"tusd": 3}
"""It takes 6 s for each: every 2 s it looks for a lock, every 5 s whether to let go of one."""
START_TIMEOUT = 3600.0
"""A server sweeps before its first answer."""


def heads(run: Run, server: Server, ids: list[str], count: int) -> Job:
    """`count` HEADs of uploads chosen at random, one after the other on one connection."""
    chosen = random.choices(ids, k=count)
    steps = tuple(Step("HEAD", f"{UPLOADS}{upload_id}", (TUS,)) for upload_id in chosen)
    job = run.job(server, 0, 0, "head")
    return replace(job, kind="requests", uploads=(steps,), timeout=START_TIMEOUT)


def head(run: Run) -> None:
    case = "HEAD on one connection"
    run.say(f"head: {case}")
    warn_of_deletions(run)
    ids: dict[str, list[str]] = {}

    def action(server: Server, number: int) -> None:
        job = heads(run, server, ids[server.contender.name], run.settings.heads)
        run.measure_latencies("head", case, server, number, job)

    ready = []
    with ExitStack() as stack:
        for count in run.settings.unfinished:
            options = Options(label=f"{count:,} unfinished", unfinished=count)
            contenders = run.select(["forebay"], options)
            # One after the other, so that nothing else happens while one starts.
            for server in stack.enter_context(run.servers("head", case, contenders, many=True)):
                try:
                    ids[server.contender.name] = first_answer(run, server)
                    ready.append(server)
                except (ServerFailed, OSError) as error:
                    run.fail("head", case, server.contender, error)
        run.interleave("head", case, ready, action)


def first_answer(run: Run, server: Server) -> list[str]:
    """Waits for it and records when it came; the ids of the server's uploads."""
    name = server.contender.name
    ids = ids_file(server.folder).read_text().split()
    run.client(heads(run, server, ids[:1], 1))
    seconds = time.monotonic() - server.started
    peak = ProcessTree(server.pid).peak()
    run.results.startups.append(Startup("head", name, seconds, peak))
    run.say(f"  {name}: first answer {seconds:.1f} s after the start, {peak >> 20} MiB")
    run.client(heads(run, server, ids, 100))
    return ids


def takeover(run: Run) -> None:
    size = TAKEOVER_SIZE
    case = f"HEAD while half of {size_name(size)} has come and the rest does not"
    run.say(f"takeover: {case}")
    contenders = []
    for label, strict, workers in (
        ("", False, 1),
        ("across", False, 2),
        ("strict", True, 1),
        ("strict across", True, 2),
    ):
        options = Options(label=label, tus=True, strict=strict, workers=workers)
        contenders += run.select(["forebay"], options)
    polls = Options(label="10 ms polls", arguments=POLLS)
    contenders += run.select(["tusd"]) + run.select(["tusd"], polls)

    def action(server: Server, number: int) -> None:
        job = replace(
            run.job(server, size, 1, str(number)),
            kind="takeover",
            repeat=FEW.get(server.contender.name, run.settings.takeovers),
            server_pid=server.pid,
            across=server.contender.options.workers > 1,
        )
        run.measure_latencies("takeover", case, server, number, job)
        server.check(size, job.repeat)

    with run.servers("takeover", case, contenders) as servers:
        run.interleave("takeover", case, servers, action)
