"""Checksums in requests, in all the fields that are supported.

They are those of RFC 9530, of its predecessors (RFC 1864, RFC 3230), and of storage clients. A
malformed checksum is refused; one of an unknown algorithm is ignored, as RFC 9530 says
(docs/decisions/019-*).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Collection, Sequence

from forebay.errors import InvalidField
from forebay.model import Digest
from forebay.protocol import digest_fields, fields
from forebay.protocol.fields import Headers, display_name

__all__ = [
    "FIELDS",
    "all_digests",
    "announced_trailers",
    "check_trailers",
    "content_digests",
    "file_digests",
    "trailer_algorithms",
    "trailer_digests",
]


_SIZES = {"md5": 16, "sha1": 20, "sha-256": 32, "sha-512": 64, "crc32": 4}
_NAMES = {
    "sha": "sha1",
    "sha1": "sha1",
    "md5": "md5",
    "sha-256": "sha-256",
    "sha256": "sha-256",
    "sha-512": "sha-512",
    "sha512": "sha-512",
}
"""Names that clients use, in lower case, and those of `forebay.engine.transfer.hashes`."""

_MOST = 64
"""Pairs in one field. More of them make the last one unreadable."""
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")


def _base64(text: str, algorithm: str, field: str) -> Digest:
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        value = b""
    return _digest(value, algorithm, field, "base64")


def _hexadecimal(text: str, algorithm: str, field: str) -> Digest:
    value = bytes.fromhex(text) if _HEX.fullmatch(text) else b""
    return _digest(value, algorithm, field, "hexadecimal")


def _digest(value: bytes, algorithm: str, field: str, form: str) -> Digest:
    if len(value) != _SIZES[algorithm]:
        raise InvalidField(
            f"{field} is not a {algorithm} of {_SIZES[algorithm]} bytes in {form}; correct it or "
            "leave it out."
        )
    return Digest(algorithm, value)


def _rfc9530(lines: list[bytes], field: str) -> list[Digest]:
    return list(digest_fields.parse(lines, field))


def _pairs(lines: list[bytes], field: str) -> list[Digest]:
    """`algorithm=base64`, separated by commas: Digest (RFC 3230), X-Goog-Hash."""
    found = []
    for pair in b",".join(lines).decode("latin-1").split(",", _MOST):
        name, _, value = pair.strip().partition("=")
        algorithm = _NAMES.get(name.strip().lower())
        if algorithm is not None:
            found.append(_base64(value.strip(), algorithm, field))
    return found


def _named(lines: list[bytes], field: str) -> list[Digest]:
    """`ALGORITHM:hexadecimal`: OC-Checksum."""
    name, _, value = b",".join(lines).decode("latin-1").partition(":")
    algorithm = _NAMES.get(name.strip().lower())
    return [] if algorithm is None else [_hexadecimal(value.strip(), algorithm, field)]


def _one(algorithm: str, read: Callable[[str, str, str], Digest]) -> _Reader:
    def parse(lines: list[bytes], field: str) -> list[Digest]:
        return [read(b",".join(lines).decode("latin-1").strip(), algorithm, field)]

    return parse


def _amazon(lines: list[bytes], field: str) -> list[Digest]:
    """`x-amz-content-sha256`, which can also be a keyword for framing or signing."""
    text = b",".join(lines).decode("latin-1").strip()
    if text.upper().startswith("STREAMING-"):
        raise InvalidField(
            f"{field}: the body has a framing of its own (aws-chunked), which would be stored as "
            "the file. Send the file as it is."
        )
    if text.upper() == "UNSIGNED-PAYLOAD":
        return []
    return [_hexadecimal(text, "sha-256", field)]


_Reader = Callable[[list[bytes], str], list[Digest]]

_CONTENT: dict[bytes, _Reader] = {
    b"content-digest": _rfc9530,
    b"content-md5": _one("md5", _base64),
    b"x-amz-content-sha256": _amazon,
}
"""Fields with a digest of the content of this request."""
_FILE: dict[bytes, _Reader] = {
    b"repr-digest": _rfc9530,
    b"digest": _pairs,
    b"x-goog-hash": _pairs,
    b"oc-checksum": _named,
    b"x-checksum-md5": _one("md5", _hexadecimal),
    b"x-checksum-sha1": _one("sha1", _hexadecimal),
    b"x-checksum-sha256": _one("sha-256", _hexadecimal),
    b"x-checksum-sha512": _one("sha-512", _hexadecimal),
    b"x-amz-checksum-crc32": _one("crc32", _base64),
    b"x-amz-checksum-sha1": _one("sha1", _base64),
    b"x-amz-checksum-sha256": _one("sha-256", _base64),
}
"""Fields with a digest of the whole file."""
_ALL = _CONTENT | _FILE
FIELDS = frozenset(_ALL)
"""The names of all these fields."""


def _read(headers: Headers, readers: dict[bytes, _Reader]) -> tuple[Digest, ...]:
    names = {name for name, _ in headers}
    found: list[Digest] = []
    for name, read in readers.items():
        if name in names:
            found += read(fields.every(headers, name), display_name(name))
    return tuple(found)


def content_digests(headers: Headers) -> tuple[Digest, ...]:
    """Digests of the content of this request. Raises InvalidField."""
    return _read(headers, _CONTENT)


def file_digests(headers: Headers) -> tuple[Digest, ...]:
    """Digests of the whole file, of which a request may carry a part. Raises InvalidField."""
    return _read(headers, _FILE)


def all_digests(headers: Headers) -> tuple[Digest, ...]:
    """All digests in a request that carries a whole file: content and file are the same bytes,
    including the content coding (RFC 9530, sections 2 and 3). Raises InvalidField.
    """
    return _read(headers, _ALL)


_LATE = {
    b"content-digest": ("sha-256", "sha-512"),
    b"repr-digest": ("sha-256", "sha-512"),
    b"content-md5": ("md5",),
    b"digest": ("md5", "sha1", "sha-256", "sha-512"),
}
"""Fields that may be trailers, and the algorithms they may then have."""


def announced_trailers(headers: Headers, *, whole: bool) -> tuple[bytes, ...]:
    """The digest fields that Trailer announces (RFC 9110, section 6.6.2).

    `whole`: the body is a whole file, so digests of the file count as well.
    """
    names = {name.strip() for name in fields.elements(headers, b"trailer")}
    known = _LATE if whole else _LATE.keys() & _CONTENT.keys()
    return tuple(sorted(names.intersection(known)))


def trailer_algorithms(names: Collection[bytes]) -> tuple[str, ...]:
    """The algorithms that trailers of these names may have."""
    return tuple(sorted({algorithm for name in names for algorithm in _LATE[name]}))


def trailer_digests(trailers: Headers, names: Sequence[bytes]) -> tuple[Digest, ...]:
    """The digests in the trailers that were announced; all others are ignored. Raises InvalidField
    when one of them is missing.
    """
    there = {name for name, _ in trailers}
    for name in names:
        if name not in there:
            raise InvalidField(f"{display_name(name)} was announced as a trailer and did not come.")
    return _read(trailers, {name: _ALL[name] for name in names})


def check_trailers(names: Sequence[bytes], *, readable: bool, content_length: int | None) -> None:
    """Checks that trailers of these names are possible. `readable`: this server can read trailers.
    `content_length`: bytes, None for a chunked body. Raises InvalidField.
    """
    if not names:
        return
    shown = display_name(names[0])
    if content_length is not None:
        raise InvalidField(f"{shown} cannot come as a trailer: the body is not chunked.")
    if not readable:
        raise InvalidField(f"Trailers cannot be read here; send {shown} in the head.")
