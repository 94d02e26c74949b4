"""Limits of one connection: time, and memory for heads."""

from __future__ import annotations

import dataclasses

from forebay.config import Settings

_DEFAULT = Settings()


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Durations in seconds, 0 for none; sizes in bytes."""

    head_timeout: float = _DEFAULT.head_timeout
    keep_alive_timeout: float | None = None
    """None: that of uvicorn (`--timeout-keep-alive`)."""
    linger_timeout: float = _DEFAULT.linger_timeout
    """How long a client may go on sending after the last answer; 0: not at all."""
    max_head: int = _DEFAULT.max_head
    send_timeout: float = 60.0
    """How long a client may read nothing of what is sent to it."""
