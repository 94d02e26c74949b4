"""Forms: a file as multipart/form-data, beside the same file as a raw body."""

from dataclasses import replace

from bench.contenders import Options
from bench.run import Run
from bench.scenarios.memory import FIRST, settle
from bench.scenarios.uploads import Uploads, size_name
from bench.servers import ServerFailed

FIELDS = 10_000
_ROOM = ("--form-max-parts", str(2 * FIELDS), "--form-max-fields", str(2 * FIELDS))


def forms(run: Run) -> None:
    form = Options(label="form", form=True)
    contenders = run.select(["forebay"]) + run.select(["forebay", "forebay-asgi"], form)
    contenders += run.select(["fastapi"])
    Uploads("forms", contenders, run.settings.size).run(run)
    memory(run, run.settings.memory_size, 0)
    memory(run, FIRST, FIELDS)


def memory(run: Run, size: int, fields: int) -> None:
    """One form, in a server that has done nothing but a small one."""
    case = f"{fields:,} fields" if fields else size_name(size)
    run.say(f"forms: memory, {case}")
    options = Options(label="form", form=True, arguments=_ROOM)
    for contender in run.select(["forebay"], options):
        with run.servers("forms", case, [contender]) as servers:
            for server in servers:
                try:
                    settle(run, server)
                    contender.options = replace(options, fields=fields)
                    source = run.sources.path(min(size, run.settings.size))
                    upload = contender.upload("bench-large.bin", size)
                    job = run.job(server, FIRST, 1, "large")
                    job = replace(job, source=source, size=size, uploads=(upload,))
                    run.measure("forms", case, server, 0, job)
                    server.check(size, 1)
                except (ServerFailed, OSError) as error:
                    run.fail("forms", case, contender, error)
