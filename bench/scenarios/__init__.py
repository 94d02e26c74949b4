"""Every scenario by its name, in the order of a full run."""

from collections.abc import Callable, Mapping

from bench.run import Run
from bench.scenarios.download import download
from bench.scenarios.forms import forms
from bench.scenarios.latency import head, takeover
from bench.scenarios.memory import memory
from bench.scenarios.small import small, tus_small
from bench.scenarios.uploads import chunked, digest, one, sixteen, strict, tls, tus

SCENARIOS: Mapping[str, Callable[[Run], None]] = {
    "one": one,
    "sixteen": sixteen,
    "tls": tls,
    "strict": strict,
    "digest": digest,
    "chunked": chunked,
    "forms": forms,
    "tus": tus,
    "takeover": takeover,
    "small": small,
    "tus-small": tus_small,
    "memory": memory,
    "download": download,
    "head": head,
}

__all__ = ["SCENARIOS"]
