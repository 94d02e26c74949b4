"""Small uploads at a rate: wrk on keep-alive connections."""

import re
import subprocess
import time
from contextlib import suppress

from bench.contenders import Contender, Options, SmallRequest
from bench.measure import usage_of
from bench.paths import ENDED, program
from bench.results import Sample
from bench.run import Run
from bench.servers import Server, ServerFailed

SIZE = 4096
CONNECTIONS = 16
SETTLE_SECONDS = 360
TUS_FAMILIES = ("tusd", "tuspyserver", "tus-node")
FAMILIES = ("floor", "forebay", "nginx", "uvicorn", *TUS_FAMILIES)

SCRIPT = """
wrk.method = "{method}"
wrk.body = string.rep("4 KiB of a small upload. ", 200):sub(1, {size})
{headers}
local path, count = "{path}", 0
if path:find("%d", 1, true) then
  request = function()
    count = count + 1
    return wrk.format(nil, string.format(path, count))
  end
end
"""


def script(small: SmallRequest) -> str:
    headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in small.headers)
    return SCRIPT.format(method=small.method, size=SIZE, headers=headers, path=small.path)


def wrk(server: Server, small: SmallRequest, seconds: float) -> tuple[int, float]:
    """How many requests were answered 2xx, in how many seconds."""
    lua = server.folder.parent / "small.lua"
    lua.write_text(script(small))
    path = "/" if "%d" in small.path else small.path
    command = [program("wrk") or "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s"]
    command += ["-s", str(lua), f"http://127.0.0.1:{server.port}{path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    total = re.search(r"(\d+) requests in ([\d.]+)(m?s)", done.stdout)
    if done.returncode != 0 or total is None:
        raise ServerFailed(f"wrk: {(done.stderr or done.stdout)[-300:]}")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    if bad or int(total[1]) == 0:
        raise ServerFailed(f"{bad[1] if bad else 'no'} answers of {total[1]} were not 2xx")
    return int(total[1]), float(total[2]) * (1e-3 if total[3] == "ms" else 1)


def warn_of_deletions(run: Run) -> None:
    """ext4 walks over inodes freed in the last six minutes, so an earlier run slows this one."""
    with suppress(FileNotFoundError):
        age = time.time() - ENDED.stat().st_mtime
        if age < SETTLE_SECONDS:
            run.say(f"  warning: small files were deleted {age:.0f} s ago; ext4 is slower for now")


def rates(run: Run, scenario: str, contenders: list[Contender]) -> None:
    """Rounds of small uploads by each of the contenders in turn."""
    case = f"{SIZE >> 10} KiB, {CONNECTIONS} connections"
    run.say(f"{scenario}: {case}")
    if program("wrk") is None:
        run.results.missing["wrk"] = "no wrk on PATH, so no small uploads were measured"
        return

    warn_of_deletions(run)

    def action(server: Server, number: int) -> None:
        request = server.contender.small(SIZE)
        assert request is not None
        if number == 0:
            wrk(server, request, 1)
            server.set_aside()
        with usage_of(server.pid) as usage:
            count, seconds = wrk(server, request, run.settings.small_seconds)
        server.check(SIZE, count)
        run.results.samples.append(
            Sample(
                scenario=scenario,
                case=case,
                contender=server.contender.name,
                round=number,
                seconds=seconds,
                bytes=count * SIZE,
                requests=count,
                cpu_seconds=usage.cpu_seconds,
                idle_rss=usage.idle_rss,
                peak_rss=usage.peak_rss,
            )
        )
        run.say(f"  round {number + 1} {server.contender.name}: {count / seconds:,.0f} a second")

    able = [contender for contender in contenders if contender.small(SIZE)]
    with run.servers(scenario, case, able, many=True) as servers:
        run.interleave(scenario, case, servers, action, after=Server.set_aside)


def small(run: Run) -> None:
    rates(run, "small", run.select(FAMILIES, Options(one_worker=True)))


def tus_small(run: Run) -> None:
    """Creation with upload; our raw POST beside it."""
    tus = Options(label="tus", tus=True)
    contenders = run.select(["forebay"]) + run.select(["forebay"], tus) + run.select(TUS_FAMILIES)
    rates(run, "tus-small", contenders)
