"""What one connection may take of time and memory before it is a request."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Durations in seconds, 0 for none; sizes in bytes."""

    head_timeout: float = 20.0
    keep_alive_timeout: float | None = None
    """None: as uvicorn has it (`--timeout-keep-alive`)."""
    linger_timeout: float = 30.0
    """0: a refused client is not read from any more."""
    max_head: int = 64 << 10
    send_timeout: float = 60.0
    """How long a client may take nothing of what is sent to it."""
