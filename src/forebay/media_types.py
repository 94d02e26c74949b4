"""The media type of a file, by the extension of its name.

`mimetypes` is not used: it also reads files of the machine, so the same name could be safe to show
on one server and a script on the next.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable

__all__ = [
    "UNKNOWN",
    "extension_of",
    "has_charset",
    "is_active",
    "is_shown",
    "is_utf8",
    "matches",
    "media_type_of",
]

UNKNOWN = "application/octet-stream"

_TABLE = """
application/epub+zip epub
application/gzip gz tgz
application/json json map
application/manifest+json webmanifest
application/msword doc dot
application/pdf pdf
application/postscript ps ai eps
application/rtf rtf
application/sql sql
application/vnd.apple.mpegurl m3u8
application/vnd.android.package-archive apk
application/vnd.ms-excel xls
application/vnd.ms-powerpoint ppt
application/vnd.oasis.opendocument.presentation odp
application/vnd.oasis.opendocument.spreadsheet ods
application/vnd.oasis.opendocument.text odt
application/vnd.openxmlformats-officedocument.presentationml.presentation pptx
application/vnd.openxmlformats-officedocument.spreadsheetml.sheet xlsx
application/vnd.openxmlformats-officedocument.wordprocessingml.document docx
application/vnd.sqlite3 sqlite sqlite3
application/wasm wasm
application/x-7z-compressed 7z
application/x-bzip2 bz2 tbz2
application/x-hdf5 h5 hdf5
application/x-ndjson ndjson jsonl
application/x-sh sh
application/x-tar tar
application/x-xz xz txz
application/xhtml+xml xhtml xht
application/xml xml xsl xsd rdf wsdl
application/yaml yaml yml
application/zip zip
application/zstd zst
audio/aac aac
audio/flac flac
audio/midi mid midi
audio/mp4 m4a
audio/mpeg mp3 mp2
audio/ogg ogg oga opus
audio/wav wav
audio/x-aiff aif aiff
font/otf otf
font/ttf ttf
font/woff woff
font/woff2 woff2
image/avif avif
image/bmp bmp
image/gif gif
image/heic heic
image/heif heif
image/jpeg jpg jpeg jpe
image/jxl jxl
image/png png apng
image/svg+xml svg
image/tiff tif tiff
image/vnd.microsoft.icon ico
image/webp webp
message/rfc822 eml
model/gltf-binary glb
model/gltf+json gltf
text/calendar ics
text/css css
text/csv csv
text/html html htm shtml
text/javascript js mjs cjs
text/markdown md markdown
text/n3 n3
text/plain txt text log conf cfg ini toml srt diff patch c h cc cpp hpp rs go java rb pl ksh
text/tab-separated-values tsv
text/turtle ttl
text/vcard vcf
text/vtt vtt
text/x-python py
video/mp2t ts m2ts
video/mp4 mp4 m4v
video/mpeg mpeg mpg
video/ogg ogv
video/quicktime mov qt
video/webm webm
video/x-matroska mkv
video/x-msvideo avi
"""
_TYPES = {
    extension: kind
    for kind, *extensions in map(str.split, _TABLE.strip().splitlines())
    for extension in extensions
}


_EXTENSIONS = {
    kind: extension for kind, extension, *_ in map(str.split, _TABLE.strip().splitlines())
} | {UNKNOWN: "bin", "image/jpg": "jpg", "audio/mp3": "mp3", "audio/x-wav": "wav"}


def extension_of(kind: str) -> str:
    """The usual extension of files of that type, without a dot; "bin" for an unknown type.

    `kind`: the type in lower case.
    """
    return _EXTENSIONS.get(kind, "bin")


def media_type_of(name: str) -> str:
    """`type/subtype` by the extension of `name`; `UNKNOWN` for an unknown one."""
    stem, _, extension = name.rpartition("/")[2].rpartition(".")
    return _TYPES.get(extension.lower(), UNKNOWN) if stem else UNKNOWN


_PLAIN = frozenset(
    {"text/plain", "text/csv", "text/markdown", "text/tab-separated-values", "text/x-python"}
)


def has_charset(kind: str) -> bool:
    """Whether Content-Type should name the charset of such a file: the type has no other way to
    name it, as HTML has, and no fixed one, as WebVTT has.
    """
    return kind in _PLAIN


_SHIFTS = re.compile(rb"\x1b[$(]")


def is_utf8(data: bytes, *, whole: bool) -> bool:
    """Whether text that begins with `data` seems to be UTF-8. `whole`: `data` is all of it.

    A character may be cut at the end of `data`. Text with NUL is UTF-16 or no text; text with the
    escapes of ISO-2022 (RFC 1468) only looks like ASCII.
    """
    if b"\0" in data or _SHIFTS.search(data) is not None:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, final=whole)
    except UnicodeDecodeError:
        return False
    return True


def matches(kind: str, patterns: Iterable[str]) -> bool:
    """Whether `kind`, in lower case, matches one of `patterns`: `image/png`, `image/*` or `*/*`."""
    accepted = (kind, kind.partition("/")[0] + "/*", "*/*")
    return any(pattern in accepted for pattern in patterns)


def is_active(kind: str) -> bool:
    """Whether a browser may run scripts in such a file, with the origin of the server."""
    return (
        kind.partition("/")[2].endswith(("html", "xml", "javascript", "ecmascript"))
        or kind in ("application/x-shockwave-flash", "multipart/related", "message/rfc822")
    )  # fmt: skip


def is_shown(kind: str, patterns: Iterable[str]) -> bool:
    """Whether a file of that type may be shown in a browser (`inline` of RFC 6266).

    An active one never is, whatever the patterns: it would act as a page of this server.
    """
    return matches(kind, patterns) and not is_active(kind)
