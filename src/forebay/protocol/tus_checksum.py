"""Upload-Checksum of tus 1.0, in the head of a request or as a trailer.

Items are those of the tus conformance list (docs/protocol-support.md).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from forebay.errors import InvalidField
from forebay.model import Digest
from forebay.protocol import fields
from forebay.protocol.fields import Headers

__all__ = [
    "ALGORITHMS",
    "announces_trailer",
    "content_checksums",
    "parse_checksum",
    "trailer_checksums",
]

ALGORITHMS = ("sha1", "sha256", "sha512", "md5", "crc32", "crc32c", "blake3", "xxh3")
"""The algorithms that can be offered, in the order of Tus-Checksum-Algorithm (item 83)."""


def parse_checksum(value: bytes, sizes: Mapping[str, int]) -> Digest:
    """The digest in an Upload-Checksum (items 84, 85, 89). `sizes`: bytes of the digest of each
    algorithm that is offered. Raises InvalidField.
    """
    algorithm, _, encoded = value.partition(b" ")
    name = algorithm.decode("latin-1")
    if name not in sizes:
        raise InvalidField(f"Upload-Checksum needs an algorithm out of {', '.join(sizes)}.")
    try:
        digest = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise InvalidField("Upload-Checksum has a value that is not base64.") from None
    if len(digest) != sizes[name]:
        raise InvalidField(f"A {name} in Upload-Checksum is {sizes[name]} bytes in base64.")
    return Digest(name, digest)


def content_checksums(headers: Headers, sizes: Mapping[str, int]) -> tuple[Digest, ...]:
    """The digest in the request's Upload-Checksum, if it has one. Raises InvalidField."""
    value = fields.single(headers, b"upload-checksum")
    return () if value is None else (parse_checksum(value, sizes),)


def announces_trailer(headers: Headers, trailers: bool) -> bool:
    """Whether Upload-Checksum comes as a trailer (items 93 and 94). `trailers`: they can be read
    here. Raises InvalidField when they cannot (item 92).
    """
    announced = fields.elements(headers, b"trailer")
    if b"upload-checksum" not in {name.strip() for name in announced}:
        return False
    if not trailers:
        raise InvalidField("Trailers cannot be read here; send Upload-Checksum in the head.")
    return True


def trailer_checksums(
    trailers: Headers, expected: tuple[Digest, ...], sizes: Mapping[str, int]
) -> tuple[Digest, ...]:
    """The digest in the Upload-Checksum that was announced as a trailer (items 94 and 95).

    Every other trailer is ignored. `expected` are the digests from the head. Raises InvalidField
    when the trailer is missing, or differs from the head.
    """
    value = fields.single(trailers, b"upload-checksum")
    if value is None:
        raise InvalidField("Upload-Checksum was announced as a trailer and did not come.")
    late = (parse_checksum(value, sizes),)
    if expected and late != expected:
        raise InvalidField("Upload-Checksum is not the same in the head and in the trailer.")
    return late
