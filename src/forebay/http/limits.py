"""Limits of one connection: time, and memory for heads."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Durations in seconds, 0 for none; sizes in bytes."""

    head_timeout: float = 20.0
    keep_alive_timeout: float | None = None
    """None: that of uvicorn (`--timeout-keep-alive`)."""
    linger_timeout: float = 30.0
    """How long a client may go on sending after the last answer; 0: not at all."""
    max_head: int = 64 << 10
    send_timeout: float = 60.0
    """How long a client may read nothing of what is sent to it."""
