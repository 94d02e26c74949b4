"""Upload-Concat of tus 1.0: `partial`, or `final;` and the URLs of the parts in order."""

from __future__ import annotations

import dataclasses
import re

from forebay.errors import InvalidField
from forebay.protocol.upload_ids import validate_upload_id

__all__ = ["Concat", "parse_concat"]

MAX_PARTS = 10_000

# Absolute (RFC 3986, section 4.3) without query and fragment. The authority is not compared: behind
# a proxy the server may not know the name that clients use.
_ABSOLUTE = re.compile(r"https?://[^/?#\s]+(/[^?#\s]*)", re.IGNORECASE)
# Nothing is unescaped and no dot segment resolved: URLs of this server have neither.
_SEGMENT = r"[A-Za-z0-9_~!$&'()*+,=:@.-]+"
_PATH = re.compile(rf"/?{_SEGMENT}(?:/{_SEGMENT})*/?")


@dataclasses.dataclass(frozen=True, slots=True)
class Concat:
    """A partial upload (`parts` is None), or a final one that concatenates the uploads `parts`."""

    parts: tuple[str, ...] | None


def parse_concat(value: bytes, mount: str) -> Concat:
    """An Upload-Concat field (items 102, 110, 111, 115).

    `mount`: path of the creation URL without a slash at its end. Raises InvalidField for a
    malformed field or a URL of another server, and NotFound for an invalid id.
    """
    text = value.decode("latin-1")
    if text.strip(" ") == "partial":
        return Concat(None)
    kind, semicolon, listed = text.partition(";")
    if kind.strip(" ") != "final" or not semicolon:
        raise InvalidField('Upload-Concat is neither "partial" nor "final;" and a list of URLs.')
    urls = listed.split()
    if not urls:
        raise InvalidField("Upload-Concat lists no uploads.")
    if len(urls) > MAX_PARTS:
        raise InvalidField(f"Upload-Concat lists more than {MAX_PARTS} uploads.")
    return Concat(tuple(_part(url, mount) for url in urls))


def _part(url: str, mount: str) -> str:
    """The id in a URL: `ID` alone, or after any path that ends with the mount.

    The path may begin with the prefix of a proxy, which is not known here.
    """
    match = _ABSOLUTE.fullmatch(url)
    path = match[1] if match else url
    if _PATH.fullmatch(path) is None or any(s in (".", "..") for s in path.split("/")):
        raise InvalidField("Upload-Concat lists a URL that is none of this server's uploads.")
    folder, slash, upload_id = path.rstrip("/").rpartition("/")
    if slash and not f"/{folder}".endswith(f"/{mount.strip('/')}" if mount else "/"):
        raise InvalidField("Upload-Concat lists a URL that is none of this server's uploads.")
    return validate_upload_id(upload_id)
