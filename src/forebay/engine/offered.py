"""What resumable uploads can do with a store (invariant 14)."""

from __future__ import annotations

from forebay.model import NOTHING_OFFERED, Offered
from forebay.stores.base import Resumable, Sweepable


def offered_by(store: object) -> Offered:
    """What follows from the protocols of `forebay.stores.base` that a store has."""
    if not isinstance(store, Resumable):
        return NOTHING_OFFERED
    return Offered(expiration=isinstance(store, Sweepable))
