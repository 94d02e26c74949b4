"""What a request says of its body's checksum, in every way that is understood here.

Those of RFC 9530, their predecessors (RFC 1864, RFC 3230), and what storage clients send. A
checksum that is understood is compared, and one that cannot be read is refused; an algorithm that
is not known is ignored, as RFC 9530 says (docs/decisions/019-*).
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
"""What clients write, in lower case, and the names of `forebay.engine.transfer.hashes`."""

_MOST = 64
"""Pairs in one field; what comes after them is part of the last one, which cannot be read then."""
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
    """`algorithm=base64`, with commas between: Digest (RFC 3230), X-Goog-Hash."""
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
    """`x-amz-content-sha256`, which may also say how the body is framed or signed."""
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
"""Of what a request carries."""
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
"""Of the whole file."""
_ALL = _CONTENT | _FILE
FIELDS = frozenset(_ALL)


def _read(headers: Headers, readers: dict[bytes, _Reader]) -> tuple[Digest, ...]:
    names = {name for name, _ in headers}
    found: list[Digest] = []
    for name, read in readers.items():
        if name in names:
            found += read(fields.every(headers, name), display_name(name))
    return tuple(found)


def content_digests(headers: Headers) -> tuple[Digest, ...]:
    """Those of what this request carries. Raises InvalidField."""
    return _read(headers, _CONTENT)


def file_digests(headers: Headers) -> tuple[Digest, ...]:
    """Those of the whole file, whatever part of it a request carries. Raises InvalidField."""
    return _read(headers, _FILE)


def all_digests(headers: Headers) -> tuple[Digest, ...]:
    """All of them, of a whole file in one request: they are of the same bytes, its content
    coding included (RFC 9530, sections 2 and 3). Raises InvalidField.
    """
    return _read(headers, _ALL)


_LATE = {
    b"content-digest": ("sha-256", "sha-512"),
    b"repr-digest": ("sha-256", "sha-512"),
    b"content-md5": ("md5",),
    b"digest": ("md5", "sha1", "sha-256", "sha-512"),
}
"""Fields that may come as a trailer, and what they may then bring."""


def announced_trailers(headers: Headers, *, whole: bool) -> tuple[bytes, ...]:
    """The fields of digests that come behind the body, as Trailer says (RFC 9110, section 6.6.2).

    `whole`: the body is all of a file, so that those of the file are of it.
    """
    names = {name.strip() for name in fields.elements(headers, b"trailer")}
    known = _LATE if whole else _LATE.keys() & _CONTENT.keys()
    return tuple(sorted(names.intersection(known)))


def trailer_algorithms(names: Collection[bytes]) -> tuple[str, ...]:
    """The algorithms that trailers of these names may bring."""
    return tuple(sorted({algorithm for name in names for algorithm in _LATE[name]}))


def trailer_digests(trailers: Headers, names: Sequence[bytes]) -> tuple[Digest, ...]:
    """What came in the trailers that were announced; no other is looked at. Raises InvalidField
    for one that did not come: what was to be verified is not.
    """
    there = {name for name, _ in trailers}
    for name in names:
        if name not in there:
            raise InvalidField(f"{display_name(name)} was announced as a trailer and did not come.")
    return _read(trailers, {name: _ALL[name] for name in names})


def check_trailers(names: Sequence[bytes], *, readable: bool, content_length: int | None) -> None:
    """That trailers of these names can come, and be read here. Raises InvalidField."""
    if not names:
        return
    shown = display_name(names[0])
    if content_length is not None:
        raise InvalidField(f"{shown} cannot come as a trailer: the body is not chunked.")
    if not readable:
        raise InvalidField(f"Trailers cannot be read here; send {shown} in the head.")
