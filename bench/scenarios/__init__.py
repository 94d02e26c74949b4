"""Every scenario by its name, in the order of a full run."""

from collections.abc import Callable, Mapping

from bench.run import Run
from bench.scenarios.download import download
from bench.scenarios.memory import memory
from bench.scenarios.small import small
from bench.scenarios.uploads import chunked, digest, one, sixteen, strict, tls

SCENARIOS: Mapping[str, Callable[[Run], None]] = {
    "one": one,
    "sixteen": sixteen,
    "tls": tls,
    "strict": strict,
    "digest": digest,
    "chunked": chunked,
    "small": small,
    "memory": memory,
    "download": download,
}

__all__ = ["SCENARIOS"]
