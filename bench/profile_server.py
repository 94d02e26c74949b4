"""`python -m bench profile NAME`: a flame graph of a Python contender under uploads (py-spy)."""

import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from bench.paths import BUILD, PEERS, RESULTS
from bench.run import Run
from bench.servers import Server


def profile(run: Run, family: str, seconds: float) -> int:
    """Uploads one file after the other while py-spy looks on; prints where the picture is."""
    spy = PEERS / "bin" / "py-spy"
    contenders = run.select([family])
    if not contenders or not spy.exists():
        print(run.results.missing.get(family) or "no py-spy: `python -m bench setup python`")
        return 1
    RESULTS.mkdir(exist_ok=True)
    picture = RESULTS / f"profile-{family}.svg"
    base = Path(tempfile.mkdtemp(prefix="profile-", dir=BUILD))
    server = Server.start(contenders[0], base)
    try:
        watching = subprocess.Popen(
            [
                *(str(spy), "record", "--native", "--threads", "--pid", str(server.pid)),
                *("--output", str(picture), "--duration", str(round(seconds))),
            ]
        )
        deadline = time.monotonic() + seconds
        number = 0
        while time.monotonic() < deadline:
            run.client(run.job(server, run.settings.size, 1, str(number)))
            server.clean()
            number += 1
        try:
            watching.wait(30)
        except subprocess.TimeoutExpired:
            watching.send_signal(signal.SIGINT)
            watching.wait(30)
    finally:
        server.stop()
        shutil.rmtree(base, ignore_errors=True)
    print(f"{number} uploads; profile in {picture}")
    return 0
