"""Digest fields of RFC 9530, those that announce a digest and those that ask for one."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from forebay.errors import InvalidField
from forebay.model import Digest
from forebay.protocol.structured_fields import structured_dictionary

__all__ = ["ALGORITHMS", "parse", "serialise", "wanted_algorithms"]

ALGORITHMS: Mapping[str, str] = MappingProxyType({"sha-256": "sha256", "sha-512": "sha512"})
"""The active algorithms of the registry (section 7.2), with their names in `hashlib`."""

_SIZES = {"sha-256": 32, "sha-512": 64}


def parse(values: Sequence[bytes], field: str) -> tuple[Digest, ...]:
    """The digests in a Content-Digest or Repr-Digest field.

    `values`: all lines of the field. `field`: its name, for messages. Unknown algorithms are
    ignored (sections 2 and 3). Raises `InvalidField` when the field is malformed: the content
    would be stored unverified.
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
    """The algorithms that Want-Content-Digest or Want-Repr-Digest asks for, best first.

    Preferences are from 1 to 10, and 0 is "not acceptable" (section 4). The field is a hint, so
    what is malformed or unknown is ignored.
    """
    members = structured_dictionary(values) if values else None
    ranked = [
        (weight, algorithm)
        for algorithm, (weight, _) in (members or {}).items()
        # `type`, because a member without a value is True, which is an int
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
