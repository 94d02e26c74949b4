"""The 104 responses to one request of the IETF draft (section 5)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from forebay.http import scope_keys
from forebay.http.answers import Headers
from forebay.http.bypass import cycle_of
from forebay.model import MiB
from forebay.protocol import ietf
from forebay.protocol.ietf import Limits, UploadFields

STEP = 8 * MiB
INTERVAL = 1.0
"""A progress report follows after this many bytes or seconds, whichever comes first."""


class InterimResponses:
    """Sends them only to clients that asked for them, and only on our own server."""

    def __init__(self, scope: dict[str, Any], asked: UploadFields) -> None:
        # Past the application's `send`: interim responses do not concern middleware, and some of
        # it fails when the first message is not the start of a response.
        self._cycle = cycle_of(scope)
        self.possible = (
            asked.version.interim and scope.get("http_version") != "1.0" and self._cycle is not None
        )
        self._version = asked.version
        self._last = time.monotonic()
        self._offset = asked.offset or 0
        self._sending: asyncio.Task[None] | None = None

    async def announce(self, location: bytes, limits: Limits) -> bool:
        """Tells the client where its upload is; False when that is not possible."""
        if self.possible:
            await self._send(ietf.announcement_fields(self._version, location, limits))
        return self.possible

    def on_offset(self, offset: int) -> None:
        """Reports a committed offset, unless the last report was just before."""
        now = time.monotonic()
        if not self.possible or (self._sending is not None and not self._sending.done()):
            return
        if offset - self._offset < STEP and now - self._last < INTERVAL:
            return
        self._offset, self._last = offset, now
        progress = ietf.progress_fields(self._version, offset)
        self._sending = asyncio.ensure_future(self._send(progress))

    async def _send(self, headers: Headers) -> None:
        message = {"type": scope_keys.INFORMATIONAL, "status": 104, "headers": headers}
        await self._cycle.send(message)

    async def finish(self) -> None:
        """Waits for a report that is being sent, so that the final answer comes after it."""
        if self._sending is not None:
            with contextlib.suppress(Exception):
                await self._sending
