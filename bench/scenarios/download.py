"""The way back: one finished upload, fetched whole."""

from dataclasses import replace
from pathlib import Path

from bench.job import Job, Step
from bench.run import Run
from bench.scenarios.uploads import size_name
from bench.servers import Server, ServerFailed

FAMILIES = ("forebay", "nginx", "tusd")
NAME = "bench-download-0.bin"


def fetch(run: Run, server: Server, stored: Path, digest: bool) -> Job:
    path = server.contender.download_path(NAME, stored)
    if path is None:
        raise ServerFailed("offers no downloads")
    step = Step("GET", path)
    job = run.job(server, run.settings.size, 1, "download")
    return replace(job, kind="download", uploads=((step,),), digest=digest)


def prepare(run: Run, server: Server) -> Path:
    """Stores the file and reads it back once, compared by its digest."""
    size = run.settings.size
    run.client(run.job(server, size, 1, "download"))
    stored = server.stored(size)
    if not stored:
        raise ServerFailed("answered 2xx, but stored nothing")
    answer = run.client(fetch(run, server, stored[0], digest=True))
    if answer["digest"] != run.sources.digest(size):
        raise ServerFailed("other bytes came back than were sent")
    return stored[0]


def keep(server: Server) -> None:
    """The file is fetched again in the next round."""


def download(run: Run) -> None:
    case = size_name(run.settings.size)
    run.say(f"download: {case}")
    files: dict[str, Path] = {}

    with run.servers("download", case, run.select(FAMILIES)) as servers:
        for server in list(servers):
            try:
                files[server.contender.name] = prepare(run, server)
            except (ServerFailed, OSError) as error:
                run.fail("download", case, server.contender, error)
                servers.remove(server)

        def action(server: Server, number: int) -> None:
            job = fetch(run, server, files[server.contender.name], digest=False)
            run.measure("download", case, server, number, job)

        run.interleave("download", case, servers, action, after=keep)
