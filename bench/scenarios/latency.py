"""How long one request takes: HEAD among many uploads, and taking over a stalled one."""

import random
import time
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

    contenders = []
    for count in run.settings.unfinished:
        options = Options(label=f"{count:,} unfinished", unfinished=count)
        contenders += run.select(["forebay"], options)
    with run.servers("head", case, contenders, many=True) as servers:
        for server in list(servers):
            name = server.contender.name
            try:
                ids[name] = ids_file(server.folder).read_text().split()
                run.client(heads(run, server, ids[name], 1))
                seconds = time.monotonic() - server.started
                peak = ProcessTree(server.pid).peak()
                run.results.startups.append(Startup("head", name, seconds, peak))
                run.say(f"  {name}: first answer {seconds:.1f} s after the start")
                run.client(heads(run, server, ids[name], 100))
            except (ServerFailed, OSError) as error:
                run.fail("head", case, server.contender, error)
                servers.remove(server)
        run.interleave("head", case, servers, action)


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
    contenders += run.select(["tusd"])

    def action(server: Server, number: int) -> None:
        job = replace(
            run.job(server, size, 1, str(number)),
            kind="takeover",
            repeat=run.settings.takeovers,
            server_pid=server.pid,
            across=server.contender.options.workers > 1,
        )
        run.measure_latencies("takeover", case, server, number, job)
        server.check(size, job.repeat)

    with run.servers("takeover", case, contenders) as servers:
        run.interleave("takeover", case, servers, action)
