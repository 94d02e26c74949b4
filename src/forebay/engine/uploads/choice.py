"""How uploads of a store are claimed: by leases where the session store has them, else by locks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.engine.uploads.claims import Claims, LeasedClaims, LocalClaims
from forebay.engine.uploads.lingering import LingeringClaims
from forebay.errors import ConfigError
from forebay.sessions.base import leases_of
from forebay.stores.base import Lockable, Resumable

if TYPE_CHECKING:
    from forebay.engine.transfer.workers import Workers
    from forebay.sessions.base import Sessions
    from forebay.stores.base import Store


def claims_of(
    store: Store, sessions: Sessions, workers: Workers, *, lingering: bool = False
) -> Claims:
    """`lingering`: local claims may stay for a moment. Raises ConfigError when there is no way to
    claim uploads.
    """
    leases = leases_of(sessions)
    if leases is not None and isinstance(store, Resumable):
        return LeasedClaims(store, sessions, leases, workers)
    if isinstance(store, Lockable):
        claims = LocalClaims(store, sessions, workers)
        return LingeringClaims(claims) if lingering else claims
    raise ConfigError("This store needs a session store with leases for resumable uploads.")
