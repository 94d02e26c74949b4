"""Names of files in requests, validated before they reach a filesystem (invariant 8).

A valid name is a relative path below a root that is not hidden. Nothing is repaired or
normalised: a name is stored with the characters that were sent, or refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

from forebay.errors import InvalidName, UploadError
from forebay.model import RESERVED_NAMES

__all__ = [
    "from_client_name",
    "is_hidden_name_error",
    "numbered",
    "quote_path",
    "split_path",
    "unescape",
    "validate_name",
    "validate_path",
]

MAX_SEGMENT = 255
"""Bytes of UTF-8 in one component: NAME_MAX of common filesystems."""
MAX_PATH = 4096
"""Bytes of UTF-8 in a whole path."""
MAX_DEPTH = 64
"""Components of a path."""

# C0, DEL and C1: where a name is printed they end lines and move cursors.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")
_ORDINARY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.()-]{0,200}")
# They make "exe.gpj" look like "jpg.exe" (Unicode Technical Report 36, section 2.4).
_BIDI_OVERRIDES = re.compile("[\u202a-\u202e\u2066-\u2069]")
# Invisible, and ignored by some filesystems (HFS+): a dot after one still hides a file there.
_IGNORABLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff" + "".join(
    map(chr, range(0x206A, 0x2070))
)
_WITHOUT_IGNORABLE = dict.fromkeys(map(ord, _IGNORABLE))


def validate_name(name: str) -> str:
    """`name` unchanged, if it is valid as one component of a path. Raises `InvalidName`."""
    if name.lower() in RESERVED_NAMES:
        raise InvalidName(
            f'"{name}" is a name that programs read settings from; it is not stored.', hidden=True
        )
    if _ORDINARY.fullmatch(name):  # most names are
        return name
    if not name:
        raise InvalidName("The file name is empty.")
    if name in (".", ".."):
        raise InvalidName(f'A file cannot be called "{name}".')
    if "/" in name or "\\" in name:
        raise InvalidName("A slash or backslash cannot be part of a file name.")
    if "\x00" in name:
        raise InvalidName("The file name holds a NUL character.")
    if _CONTROLS.search(name):
        raise InvalidName("The file name holds a control character.")
    if _BIDI_OVERRIDES.search(name):
        raise InvalidName("The file name holds a character that changes the writing direction.")
    if name != name.strip():
        raise InvalidName("The file name begins or ends with a space.")
    if name.translate(_WITHOUT_IGNORABLE).lower() in RESERVED_NAMES:
        raise InvalidName("The file name differs from one for settings only by what is not seen.")
    if name.lstrip(_IGNORABLE).startswith("."):
        raise InvalidName(
            "The file name begins with a dot; hidden files are not stored.", hidden=True
        )
    if len(_utf8(name)) > MAX_SEGMENT:
        raise InvalidName(f"The file name is longer than {MAX_SEGMENT} bytes.")
    return name


def is_hidden_name_error(error: UploadError) -> bool:
    """Whether a name was refused because it is hidden, such as `.DS_Store`. When several files come
    together, the others are then still accepted.
    """
    return isinstance(error, InvalidName) and error.detail.get("hidden") is True


def validate_path(segments: Sequence[str]) -> str:
    """The components joined by `/`, if all are valid. Raises `InvalidName`."""
    if not segments:
        raise InvalidName("The file name is empty.")
    if len(segments) > MAX_DEPTH:
        raise InvalidName(f"The path is deeper than {MAX_DEPTH} folders.")
    path = "/".join([validate_name(segment) for segment in segments])
    if len(_utf8(path)) > MAX_PATH:
        raise InvalidName(f"The path is longer than {MAX_PATH} bytes.")
    return path


def _utf8(name: str) -> bytes:
    try:
        return name.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidName("The file name holds half of a surrogate pair.") from None


def from_client_name(filename: str) -> str:
    """The last component of a name that a client gave outside a URL. Raises `InvalidName`.

    Some browsers and mail programs send whole paths, with slashes or backslashes. RFC 6266,
    section 4.3, and RFC 7578, section 4.2, say to use the last component only.
    """
    return validate_name(filename.replace("\\", "/").rpartition("/")[2])


_OCTETS = re.compile(rb"(?:%[0-9A-Fa-f]{2})++")


def unescape(text: bytes) -> bytes:
    """Percent-decodes once (RFC 3986, section 2.1); malformed escapes stay as they are.

    For raw paths and queries: `urllib` needs ten times as long for each percent sign.
    """
    return _OCTETS.sub(lambda run: bytes.fromhex(run[0].replace(b"%", b"").decode()), text)


_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LONGEST_SHOWN = 1024


def display_filename(filename: str | None) -> str | None:
    """The client's name for a file, safe to show but not validated: the last component of a path,
    without control characters. None when it is empty or a folder (`.`, `..`).
    """
    last = (filename or "").replace("\\", "/").rstrip("/").rpartition("/")[2]
    if last in ("", ".", ".."):
        return None
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", last[:_LONGEST_SHOWN])


_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")


def _unescape(match: re.Match[bytes]) -> bytes:
    digits = match[1]
    if digits is None:
        raise InvalidName("A percent sign in the path is not followed by two hexadecimal digits.")
    octet = int(digits, 16)
    if octet == 0x2F:
        raise InvalidName("An escaped slash cannot be part of a file name.")
    return bytes((octet,))


def split_path(raw_path: bytes) -> list[str]:
    """The decoded components of a URL path below a route; not validated yet.

    `raw_path`: as it was sent, still escaped, without a query. One slash at the beginning and one
    at the end are dropped; the root has no components. Components are unescaped once, after
    splitting (RFC 3986, section 2.4). Raises `InvalidName`.
    """
    if len(raw_path) > 3 * MAX_PATH + 2:  # too long even if every byte is escaped
        raise InvalidName(f"The path is longer than {MAX_PATH} bytes.")
    path = raw_path.removeprefix(b"/")
    if not path:
        return []
    segments = path.removesuffix(b"/").split(b"/")
    if len(segments) > MAX_DEPTH:
        raise InvalidName(f"The path is deeper than {MAX_DEPTH} folders.")
    if b"" in segments:
        raise InvalidName("The path has an empty component between two slashes.")
    octets = [_ESCAPE.sub(_unescape, segment) for segment in segments]
    if any(b"\x00" in segment for segment in octets):
        raise InvalidName("The file name holds a NUL character.")
    try:
        return [segment.decode("utf-8") for segment in octets]
    except UnicodeDecodeError:
        raise InvalidName("The path is not UTF-8.") from None


_PLAIN = re.compile(r"[A-Za-z0-9_.~/()-]*")


def quote_path(name: str) -> str:
    """A valid name as the path of a URL (RFC 3986, section 3.3), for a Location field."""
    return name if _PLAIN.fullmatch(name) else quote(name, safe="/()")


# A file extension is short and has no spaces: the end of "Dr. Smith" is none.
_EXTENSION = re.compile(r"(?:\.tar)?\.[^.\s]{0,16}\Z", re.IGNORECASE)


def numbered(name: str, number: int) -> str:
    """`dir/name.ext` as `dir/name (number).ext`: the name to try when `name` is taken.

    For a valid name the result is valid; the stem is shortened when it would be too long. Raises
    `InvalidName` when the folders leave no room.
    """
    folder, slash, base = name.rpartition("/")
    match = _EXTENSION.search(base, 1)
    stem, extension = (base[: match.start()], match[0]) if match else (base, "")
    suffix = f" ({number}){extension}"
    room = min(MAX_SEGMENT, MAX_PATH - len((folder + slash).encode("utf-8")))
    room -= len(suffix.encode("utf-8"))
    # A character that is cut in two is dropped by "ignore".
    stem = stem.encode("utf-8")[: max(room, 0)].decode("utf-8", "ignore")
    if not stem:
        raise InvalidName("The path is too long to give the file another name.")
    return folder + slash + stem + suffix
