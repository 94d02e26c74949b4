"""tus 1.0, the wire rules: a request's head in, a wish out; an upload's record in, fields out.

Items are those of the tus conformance list (docs/protocol-support.md). Where a field may come
once a second one is refused, and numbers have one form only: what two parsers could read
differently is not guessed at (items 10 to 12).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from forebay.errors import (
    Forbidden,
    InvalidField,
    PreconditionFailed,
    TooLarge,
    UnsupportedCoding,
    UnsupportedMediaType,
)
from forebay.model import (
    MAX_OFFSET,
    About,
    AppendUpload,
    Conflict,
    CreateUpload,
    Digest,
    UploadRecord,
    UploadState,
)
from forebay.protocol import content_type, fields, http_dates
from forebay.protocol.checksums import of_content, of_file
from forebay.protocol.fields import Headers
from forebay.protocol.parameters import matches_media_type, parse_media_type
from forebay.protocol.tus_concat import parse_concat
from forebay.protocol.tus_metadata import (
    called,
    media_type_of,
    name_of,
    parse_metadata,
    readable,
)

Fields = list[tuple[bytes, bytes]]

VERSION = b"1.0.0"
RESUMABLE = (b"tus-resumable", VERSION)
CONTENT_TYPE = "application/offset+octet-stream"
_METHODS = ("POST", "HEAD", "PATCH", "DELETE", "GET", "OPTIONS")

ALGORITHMS = ("sha1", "sha256", "sha512", "md5", "crc32", "crc32c", "blake3", "xxh3")
"""Every algorithm that can be offered, in the order they are (item 83)."""

_EXTENSIONS = (
    "creation",
    "creation-defer-length",
    "creation-with-upload",
    "expiration",
    "checksum",
    "termination",
    "concatenation",
    "concatenation-unfinished",
)

_MARKS = frozenset(
    {
        b"tus-resumable",
        b"upload-metadata",
        b"upload-concat",
        b"upload-defer-length",
        b"upload-checksum",
        b"x-http-method-override",
    }
)
_OTHERS_MARKS = frozenset(
    {b"upload-complete", b"upload-incomplete", b"upload-draft-interop-version"}
)


# --- which requests are meant --------------------------------------------------------------


def speaks(method: str, headers: Headers) -> bool:
    """Whether a request is in this protocol, going by its head.

    One that forgot Tus-Resumable is recognised too, so that it can be told so (item 3).
    """
    names = {name for name, _ in headers}
    if b"tus-resumable" in names:
        return True
    if names & _OTHERS_MARKS:
        return False
    if names & _MARKS:
        return True
    if method == "POST":
        return b"upload-length" in names
    return method == "PATCH" and _is_offset_stream(headers)


def speaks_of_files(method: str, headers: Headers) -> bool:
    """The same for a request to the folders of files, where most are in no protocol at all.

    A GET is a download whatever it carries. A PUT is of a file and never of tus.
    """
    names = {name for name, _ in headers}
    overridden = b"x-http-method-override" in names
    if b"tus-resumable" in names:
        return overridden or method in ("POST", "PATCH", "HEAD", "DELETE")
    if names & _OTHERS_MARKS:
        return False
    if method not in ("POST", "PATCH"):
        return False
    marks = _MARKS - {b"x-http-method-override"} | {b"upload-length"}
    return bool(names & marks) or _is_offset_stream(headers)


def method_of(method: str, headers: Headers) -> str:
    """The method that is meant (item 9), in upper case. Raises InvalidField.

    X-HTTP-Method-Override counts whatever the actual method is.
    """
    override = fields.single(headers, b"x-http-method-override")
    if override is None:
        return method
    wanted = override.decode("latin-1").strip().upper()
    if wanted not in _METHODS:
        raise InvalidField(f"X-HTTP-Method-Override can be one of {', '.join(_METHODS)}.")
    return wanted


def check_version(method: str, headers: Headers) -> None:
    """Items 2 to 4: every method but HEAD needs the version. Raises PreconditionFailed."""
    version = fields.single(headers, b"tus-resumable")
    if version is None and method in ("HEAD", "GET"):
        return
    if version != VERSION:
        raise PreconditionFailed("This server speaks tus 1.0.0: send Tus-Resumable: 1.0.0.")


def offer(algorithms: Iterable[str], max_size: int | None, *, trailers: bool) -> Fields:
    """What OPTIONS tells (items 6 to 8, 40, 82, 92)."""
    extensions = [*_EXTENSIONS, *(["checksum-trailer"] if trailers else [])]
    offered = [
        RESUMABLE,
        (b"tus-version", VERSION),
        (b"tus-extension", ",".join(extensions).encode()),
        (b"tus-checksum-algorithm", ",".join(algorithms).encode()),
    ]
    if max_size is not None:
        offered.append((b"tus-max-size", b"%d" % max_size))
    return offered


# --- fields --------------------------------------------------------------------------------

_NUMBER = re.compile(rb"0|[1-9][0-9]{0,18}")


def number(headers: Headers, name: bytes) -> int | None:
    """A size or offset in bytes; None when the field is absent (items 10 to 12).

    One form for each number, so no sign and no leading zero. Raises InvalidField.
    """
    value = fields.single(headers, name)
    if value is None:
        return None
    if _NUMBER.fullmatch(value) is None or (found := int(value)) > MAX_OFFSET:
        raise InvalidField(f"{fields.display_name(name)} is not a number of bytes.")
    return found


def _is_offset_stream(headers: Headers) -> bool:
    """Item 23: parameters and another case do not matter."""
    value = fields.first(headers, b"content-type")
    return value is not None and parse_media_type(value)[0] == CONTENT_TYPE


def _check_coding(headers: Headers) -> None:
    """Item 38: compressed bytes would be stored as they are, and nobody could tell."""
    codings = fields.elements(headers, b"content-encoding")
    if any(coding.strip() not in (b"", b"identity") for coding in codings):
        raise UnsupportedCoding


def checksum(value: bytes, sizes: Mapping[str, int]) -> Digest:
    """An Upload-Checksum (items 84, 85, 89). `sizes`: bytes of each algorithm's digest.

    Raises InvalidField, also for an algorithm that is not offered.
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


def checksums(headers: Headers, sizes: Mapping[str, int]) -> tuple[Digest, ...]:
    """That of Upload-Checksum in the head. Raises InvalidField."""
    value = fields.single(headers, b"upload-checksum")
    return () if value is None else (checksum(value, sizes),)


def _announces_trailer(headers: Headers, trailers: bool) -> bool:
    """Items 93 and 94. Raises InvalidField where trailers cannot be read (item 92)."""
    announced = fields.elements(headers, b"trailer")
    if b"upload-checksum" not in {name.strip() for name in announced}:
        return False
    if not trailers:
        raise InvalidField("Trailers cannot be read here; send Upload-Checksum in the head.")
    return True


def late_checksums(
    trailers: Headers, expected: tuple[Digest, ...], sizes: Mapping[str, int]
) -> tuple[Digest, ...]:
    """The checksum that was announced to come behind the body (items 94 and 95).

    Every other trailer is ignored. Raises InvalidField when it did not come, or is another
    one than that of the head.
    """
    value = fields.single(trailers, b"upload-checksum")
    if value is None:
        raise InvalidField("Upload-Checksum was announced as a trailer and did not come.")
    late = (checksum(value, sizes),)
    if expected and late != expected:
        raise InvalidField("Upload-Checksum is not the same in the head and in the trailer.")
    return late


# --- wishes --------------------------------------------------------------------------------


def create(
    headers: Headers,
    *,
    mount: str,
    generated: str,
    on_conflict: Conflict,
    accept_types: Sequence[str] = (),
) -> CreateUpload:
    """The wish of a POST to the collection (items 44 to 51, 56, 102, 103).

    `mount` is the path of the collection; `generated` the name of an upload that gives none.
    """
    if number(headers, b"upload-offset"):
        raise InvalidField(
            "An upload begins at byte 0. To add to one that exists, PATCH its own address (the "
            "Location that it was given)."
        )
    concat = fields.single(headers, b"upload-concat")
    asked = None if concat is None else parse_concat(concat, mount)
    parts = asked.parts if asked is not None else None
    raw = fields.single(headers, b"upload-metadata") or b""
    pairs = parse_metadata(raw)
    media_type = media_type_of(pairs)
    partial = asked is not None and parts is None
    if accept_types and not partial:  # a part says nothing of the file it will be of
        _check_type(media_type, accept_types)
    return CreateUpload(
        dialect="tus",
        name=name_of(pairs, generated),
        conflict=Conflict.RENAME if on_conflict is Conflict.AUTO else on_conflict,
        length=_length(headers, final=parts is not None),
        media_type=media_type,
        metadata=raw,
        partial=partial,
        parts=parts or (),
        extra=() if concat is None else (("concat", concat.decode("latin-1")),),
        about=about(headers),
    )


def about(headers: Headers) -> About:
    """What a creation says of its file. What cannot be read is left out; `create` refuses it."""
    try:
        pairs = parse_metadata(fields.single(headers, b"upload-metadata") or b"")
    except InvalidField:
        pairs = {}
    try:
        length = number(headers, b"upload-length")
    except InvalidField:
        length = None
    return About(called(pairs), readable(pairs), (), length, media_type_of(pairs))


def _check_type(media_type: str | None, accept_types: Sequence[str]) -> None:
    if media_type is None or not matches_media_type(media_type, accept_types):
        raise UnsupportedMediaType(
            f"The media type {media_type or '(none)'} is not accepted here (--accept-types); "
            "Upload-Metadata tells it as filetype."
        )


def _length(headers: Headers, *, final: bool) -> int | None:
    """Items 44, 56 and 103. None for a length that is not known yet."""
    length = number(headers, b"upload-length")
    deferred = fields.single(headers, b"upload-defer-length")
    if final:
        if length is not None or deferred is not None:
            raise InvalidField("The length of a final upload is that of its parts.")
        return None
    if deferred is not None and deferred != b"1":
        raise InvalidField('Upload-Defer-Length can only be "1".')
    if (length is None) == (deferred is None):
        raise InvalidField("Give either Upload-Length or Upload-Defer-Length: 1.")
    return length


def content_of_creation(
    headers: Headers,
    wish: CreateUpload,
    content_length: int | None,
    sizes: Mapping[str, int],
    *,
    max_size: int | None,
    trailers: bool,
) -> AppendUpload | None:
    """What the body of a creation is (items 65, 69 to 71); None when it does not count.

    All that can be refused is refused here, before the upload exists. `content_length`: bytes
    of the body, None when they are not announced. The `upload_id` is still empty.
    """
    if content_length == 0:
        return None
    if not _is_offset_stream(headers):
        if content_type.begins_like_a_form(headers):  # nobody sends files for them to be ignored
            raise UnsupportedMediaType(
                f"The body of a creation is of {CONTENT_TYPE}, and this is a form. Post a form "
                "without the fields of tus, to a folder of files."
            )
        return None
    if wish.parts:
        raise Forbidden("A final upload is made of its parts; it takes no body.")
    _check_coding(headers)
    bound = wish.length if wish.length is not None else max_size
    if content_length is not None and bound is not None and content_length > bound:
        raise TooLarge(f"At most {bound} bytes may come.", limit=bound)
    whole = content_length is not None and content_length == wish.length
    return AppendUpload(
        "",
        "tus",
        0,
        expected=(
            *checksums(headers, sizes),
            *of_content(headers),
            *(of_file(headers) if whole else ()),
        ),
        digest_in_trailer=_announces_trailer(headers, trailers),
    )


def append(
    headers: Headers, upload_id: str, sizes: Mapping[str, int], *, trailers: bool
) -> AppendUpload:
    """The wish of a PATCH (items 23, 24, 38, 58, 84, 85)."""
    if not _is_offset_stream(headers):
        raise UnsupportedMediaType(f"A PATCH needs Content-Type: {CONTENT_TYPE}.")
    _check_coding(headers)
    offset = number(headers, b"upload-offset")
    if offset is None:
        raise InvalidField("A PATCH needs Upload-Offset.")
    return AppendUpload(
        upload_id,
        "tus",
        offset,
        length=number(headers, b"upload-length"),
        expected=(*checksums(headers, sizes), *of_content(headers)),
        digest_in_trailer=_announces_trailer(headers, trailers),
    )


# --- answers -------------------------------------------------------------------------------


def kept(record: UploadRecord) -> Mapping[str, Any]:
    """What this dialect keeps of an upload beside its metadata."""
    found: Mapping[str, Any] = json.loads(record.extra) if record.extra else {}
    return found


def expires(record: UploadRecord) -> Fields:
    """Upload-Expires while the upload is going to (items 74, 75, 78, 81)."""
    done = record.state is UploadState.COMPLETE and not kept(record).get("partial")
    if record.expires_at is None or done:
        return []
    return [(b"upload-expires", http_dates.http_date(record.expires_at))]


def head(record: UploadRecord) -> Fields:
    """What HEAD tells (items 13 to 20, 79, 104, 105)."""
    found: Fields = [(b"cache-control", b"no-store")]
    extra = kept(record)
    final = bool(extra.get("parts"))
    if not final or record.state is UploadState.COMPLETE:
        found.append((b"upload-offset", b"%d" % record.offset))
    if record.length is not None:
        found.append((b"upload-length", b"%d" % record.length))
    elif not final:
        found.append((b"upload-defer-length", b"1"))
    if record.metadata:
        found.append((b"upload-metadata", record.metadata))
    if "concat" in extra:
        found.append((b"upload-concat", extra["concat"].encode("latin-1")))
    return [*found, *expires(record)]
