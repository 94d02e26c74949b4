"""Upload-Metadata of tus 1.0, and the keys that have a meaning here.

Items are those of the tus conformance list (docs/protocol-support.md).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from forebay.errors import InvalidField, InvalidName
from forebay.protocol import names
from forebay.protocol.parameters import parse_media_type

__all__ = ["client_filename", "decoded_metadata", "media_type_of", "name_of", "parse_metadata"]

MAX_KEYS = 64
"""Pairs in one field (item 52); its size is limited by that of a request head."""

_KEY = re.compile(rb"[^\x00-\x20\x7f,]{1,255}")
_MAX_MEDIA_TYPE = 255


def parse_metadata(value: bytes) -> dict[str, bytes]:
    """The pairs of an Upload-Metadata field (items 48 to 50).

    `key SP base64`, separated by commas; spaces around a pair are allowed, and a value may be left
    out. An empty field, as tuspy sends it, has no pairs (item 49). Raises InvalidField for a
    missing or repeated key and for malformed base64, so that metadata is never stored changed.
    """
    found: dict[str, bytes] = {}
    if not value.strip(b" \t"):
        return found
    for pair in value.split(b","):
        key, _, encoded = pair.strip(b" \t").partition(b" ")
        if _KEY.fullmatch(key) is None:
            raise InvalidField("Upload-Metadata has a pair without a usable key.")
        name = key.decode("latin-1")
        if name in found:
            raise InvalidField("Upload-Metadata has the same key twice.")
        if len(found) == MAX_KEYS:
            raise InvalidField(f"Upload-Metadata has more than {MAX_KEYS} pairs.")
        try:
            found[name] = base64.b64decode(encoded.strip(b" \t"), validate=True)
        except binascii.Error:
            raise InvalidField("Upload-Metadata has a value that is not base64.") from None
    return found


def name_of(pairs: Mapping[str, bytes], generated: str) -> str:
    """The name to publish under: `filename` or `name`, else `generated`.

    The name is a hint, so an invalid one (hidden, not UTF-8, too long) does not refuse the upload:
    the file gets the generated name, and HEAD still returns the metadata as sent.
    """
    for key in ("filename", "name"):
        if pairs.get(key):
            try:
                return names.from_client_name(pairs[key].decode("utf-8"))
            except (InvalidName, UnicodeDecodeError):
                continue
    return generated


def client_filename(pairs: Mapping[str, bytes]) -> str | None:
    """The client's name for the file, not validated; None when it does not say."""
    for key in ("filename", "name"):
        if pairs.get(key):
            return names.display_filename(pairs[key].decode("utf-8", "replace"))
    return None


def decoded_metadata(pairs: Mapping[str, bytes]) -> dict[str, str | bytes]:
    """The values, as text where they are UTF-8."""
    found: dict[str, str | bytes] = {}
    for key, value in pairs.items():
        try:
            found[key] = value.decode("utf-8")
        except UnicodeDecodeError:
            found[key] = value
    return found


def media_type_of(pairs: Mapping[str, bytes]) -> str | None:
    """`filetype` or `type` when it is a media type, without its parameters."""
    for key in ("filetype", "type"):
        value = pairs.get(key, b"")
        if value and len(value) <= _MAX_MEDIA_TYPE and (kind := parse_media_type(value)[0]):
            return kind
    return None
