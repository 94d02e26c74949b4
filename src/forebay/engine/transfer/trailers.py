"""Digests in trailers, which the head of a request announced (RFC 9530, section 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from forebay.engine.transfer.pump import Hashing
from forebay.protocol import checksums

Headers = Sequence[tuple[bytes, bytes]]


class AnnouncedDigests:
    """Digests to compare a body with. `trailers`: returns the trailers when it has ended."""

    def __init__(self, names: Sequence[bytes], trailers: Callable[[], Headers]) -> None:
        self._names = names
        self._trailers = trailers
        # Which one will come is not known: all that may are kept up.
        self.hashing = Hashing(checksums.trailer_algorithms(names))

    def verify(self) -> None:
        """After the body. Raises DigestMismatch, InvalidField."""
        self.hashing.verify(checksums.trailer_digests(self._trailers(), self._names))
