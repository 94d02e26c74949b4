"""How much memory a server takes beyond what it has when idle."""

from dataclasses import replace

from bench.contenders import Contender
from bench.run import Run
from bench.scenarios.uploads import size_name
from bench.servers import Server, ServerFailed

FAMILIES = ("floor", "forebay", "nginx", "nginx-tuned", "tusd", "uvicorn")
FIRST = 64 << 10
SLOW_SIZE = 3 << 20
SLOW_COUNTS = (256, 1000)


def settle(run: Run, server: Server) -> None:
    """One small upload, so that what is loaded at first use counts as idle."""
    run.client(run.job(server, FIRST, 1, "first"))
    server.check(FIRST, 1)
    server.clean()


def large(run: Run, contender: Contender) -> None:
    """A body that repeats the source file as often as needed."""
    size = run.settings.memory_size
    case = size_name(size)
    with run.servers("memory", case, [contender]) as servers:
        for server in servers:
            try:
                settle(run, server)
                source = run.sources.path(min(size, run.settings.size))
                job = replace(run.job(server, FIRST, 1, "large"), source=source, size=size)
                job = replace(job, uploads=(contender.upload("bench-large.bin", size),))
                run.measure("memory", case, server, 0, job)
                server.check(size, 1)
            except (ServerFailed, OSError) as error:
                run.fail("memory", case, contender, error)


def slow(run: Run, contender: Contender, count: int) -> None:
    case = f"{count:,} slow uploads"
    with run.servers("memory", case, [contender]) as servers:
        for server in servers:
            try:
                settle(run, server)
                job = run.job(server, SLOW_SIZE, count, "slow")
                job = replace(job, kind="slow", duration=run.settings.slow_seconds)
                run.measure("memory", case, server, 0, job)
                server.check(SLOW_SIZE, count)
            except (ServerFailed, OSError) as error:
                run.fail("memory", case, contender, error)


def memory(run: Run) -> None:
    contenders = run.select(FAMILIES)
    run.say(f"memory: {size_name(run.settings.memory_size)} in one upload")
    for contender in contenders:
        large(run, contender)
    for count in SLOW_COUNTS:
        run.say(f"memory: {count} slow uploads")
        for contender in contenders:
            slow(run, contender, count)
