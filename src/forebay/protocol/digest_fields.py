"""Digest fields (RFC 9530): what a body is announced to be, and what is wanted back."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from forebay.errors import InvalidField
from forebay.model import Digest
from forebay.protocol.structured_fields import structured_dictionary

__all__ = ["ALGORITHMS", "parse", "serialise", "wanted_algorithms"]

ALGORITHMS: Mapping[str, str] = MappingProxyType({"sha-256": "sha256", "sha-512": "sha512"})
"""The registry's active algorithms (section 7.2), and what `hashlib` calls them."""

_SIZES = {"sha-256": 32, "sha-512": 64}


def parse(values: Sequence[bytes], field: str) -> tuple[Digest, ...]:
    """The digests of a Content-Digest or Repr-Digest field that can be verified here.

    `values` are all lines of the field, `field` its name for the message. Unknown algorithms
    are ignored (sections 2 and 3). Raises `InvalidField`: what is announced wrongly would
    else be stored unverified.
    """
    if not values:
        return ()
    members = structured_dictionary(values)
    if members is None:
        raise InvalidField(f"{field} is not a dictionary as RFC 9530 describes.")
    digests = []
    for algorithm, (value, _) in members.items():
        if algorithm not in ALGORITHMS:
            continue
        if not isinstance(value, bytes) or len(value) != _SIZES[algorithm]:
            raise InvalidField(
                f"The {algorithm} of {field} is not {_SIZES[algorithm]} bytes in base64."
            )
        digests.append(Digest(algorithm, value))
    return tuple(digests)


def wanted_algorithms(values: Sequence[bytes]) -> tuple[str, ...]:
    """The algorithms that a Want-Content-Digest or Want-Repr-Digest asks for, best first.

    Section 4: preferences from 1 to 10, 0 is "not acceptable". It is a wish, so what cannot
    be read or computed here is ignored.
    """
    members = structured_dictionary(values) if values else None
    ranked = [
        (weight, algorithm)
        for algorithm, (weight, _) in (members or {}).items()
        # `type`, since a member without a value is True and that is an int
        if algorithm in ALGORITHMS and type(weight) is int and 1 <= weight <= 10
    ]
    ranked.sort(key=lambda entry: -entry[0])
    return tuple(algorithm for _, algorithm in ranked)


def serialise(digests: Iterable[Digest]) -> bytes:
    """The value of a digest field (section 2)."""
    return b", ".join(
        digest.algorithm.encode("ascii") + b"=:" + b64encode(digest.value) + b":"
        for digest in digests
    )
