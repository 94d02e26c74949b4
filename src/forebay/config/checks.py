"""Rules between settings. `Settings` calls all of them when it is made.

Each raises ConfigError; its `detail["fields"]` names the settings in question.
"""

from __future__ import annotations

from forebay.errors import ConfigError
from forebay.units import format_size


def check_tls_files(certfile: str | None, keyfile: str | None) -> None:
    """The certificate and its key are given together."""
    if (certfile is None) != (keyfile is None):
        given, missing = ("certfile", "keyfile") if keyfile is None else ("keyfile", "certfile")
        raise ConfigError(
            f"ssl_{given} is set and ssl_{missing} is not. Give both for TLS, or neither.",
            fields=("ssl_certfile", "ssl_keyfile"),
        )


def check_memory(threshold: int, budget: int) -> None:
    """One body in memory fits into the budget of all of them. In bytes."""
    if threshold > budget:
        raise ConfigError(
            f"memory_threshold ({format_size(threshold)}) is more than memory_budget "
            f"({format_size(budget)}), which all bodies in memory share. Lower the threshold or "
            "raise the budget.",
            fields=("memory_threshold", "memory_budget"),
        )
