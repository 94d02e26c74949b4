"""tus 1.0, the wire rules: the head of a request in, a command out; a record in, fields out.

Items are those of the tus conformance list (docs/protocol-support.md). A repeated field is
refused, and a number has only one form: nothing is accepted that two parsers could read
differently (items 10 to 12).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

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
    Offered,
    UploadRecord,
    UploadState,
)
from forebay.protocol import content_type, fields, http_dates
from forebay.protocol.checksums import content_digests, file_digests
from forebay.protocol.content_codings import content_codings
from forebay.protocol.fields import Headers
from forebay.protocol.parameters import matches_media_type, parse_media_type
from forebay.protocol.tus_checksum import announces_trailer, content_checksums
from forebay.protocol.tus_concat import parse_concat
from forebay.protocol.tus_metadata import (
    client_filename,
    decoded_metadata,
    media_type_of,
    name_of,
    parse_metadata,
)
from forebay.record import Extra

Fields = list[tuple[bytes, bytes]]

VERSION = b"1.0.0"
RESUMABLE = (b"tus-resumable", VERSION)
CONTENT_TYPE = "application/offset+octet-stream"
_METHODS = ("POST", "HEAD", "PATCH", "DELETE", "GET", "OPTIONS")

_EXTENSIONS = {
    "resumable": ("creation", "creation-defer-length", "creation-with-upload"),
    "expiration": ("expiration",),
    "checksum": ("checksum",),
    "termination": ("termination",),
    "concatenation": ("concatenation", "concatenation-unfinished"),
}
"""By the field of `Offered` that they need, in the order in which they are listed."""
_NEEDS = ((b"upload-concat", "concatenation"), (b"upload-checksum", "checksum"))
"""Request fields of an extension, and the field of `Offered` that they need."""

FIELDS = (
    b"tus-resumable",
    b"upload-metadata",
    b"upload-concat",
    b"upload-defer-length",
    b"upload-checksum",
)
"""Request fields that belong to tus alone."""
_OVERRIDE = b"x-http-method-override"
_IETF_FIELDS = frozenset(
    {b"upload-complete", b"upload-incomplete", b"upload-draft-interop-version"}
)


# --- which requests are tus ----------------------------------------------------------------


def speaks(method: str, headers: Headers) -> bool:
    """Whether a request to the uploads is in this protocol, judging by its head.

    A request without Tus-Resumable is recognised by other fields, so that the answer can say
    what is missing (item 3).
    """
    names = {name for name, _ in headers}
    if b"tus-resumable" in names:
        return True
    if names & _IETF_FIELDS:
        return False
    if _OVERRIDE in names or not names.isdisjoint(FIELDS):
        return True
    if method == "POST":
        return b"upload-length" in names
    return method == "PATCH" and _is_offset_stream(headers)


def speaks_of_files(method: str, headers: Headers) -> bool:
    """Whether a request to a folder of files is in this protocol; most are not.

    A GET is always a download, and a PUT always stores a file.
    """
    names = {name for name, _ in headers}
    if b"tus-resumable" in names:
        return _OVERRIDE in names or method in ("POST", "PATCH", "HEAD", "DELETE")
    if names & _IETF_FIELDS:
        return False
    if method not in ("POST", "PATCH"):
        return False
    return not names.isdisjoint((*FIELDS, b"upload-length")) or _is_offset_stream(headers)


def method_of(method: str, headers: Headers) -> str:
    """The method in upper case, after X-HTTP-Method-Override (item 9). Raises InvalidField.

    The override applies to every method.
    """
    override = fields.single(headers, _OVERRIDE)
    if override is None:
        return method
    wanted = override.decode("latin-1").strip().upper()
    if wanted not in _METHODS:
        raise InvalidField(f"X-HTTP-Method-Override can be one of {', '.join(_METHODS)}.")
    return wanted


def check_version(method: str, headers: Headers) -> None:
    """Checks Tus-Resumable, which only HEAD and GET may leave out (items 2 to 4).

    Raises PreconditionFailed.
    """
    version = fields.single(headers, b"tus-resumable")
    if version is None and method in ("HEAD", "GET"):
        return
    if version != VERSION:
        raise PreconditionFailed("This server speaks tus 1.0.0: send Tus-Resumable: 1.0.0.")


def check_offered(headers: Headers, offered: Offered) -> None:
    """Checks that no field needs an extension that is not offered. Raises InvalidField."""
    trailers = {name.strip() for name in fields.elements(headers, b"trailer")}
    for name, need in _NEEDS:
        sent = name in trailers or fields.first(headers, name) is not None
        if sent and not getattr(offered, need):
            raise InvalidField(
                f"{fields.display_name(name)} is not offered here. Tus-Extension in the answer to "
                "OPTIONS lists what is."
            )


def offer(
    algorithms: Iterable[str], max_size: int | None, offered: Offered, *, trailers: bool
) -> Fields:
    """The fields of an answer to OPTIONS (items 6 to 8, 40, 82, 92)."""
    if not offered.resumable:
        return []
    extensions = [e for need, names in _EXTENSIONS.items() if getattr(offered, need) for e in names]
    if trailers and offered.checksum:
        extensions.append("checksum-trailer")
    found = [
        RESUMABLE,
        (b"tus-version", VERSION),
        (b"tus-extension", ",".join(extensions).encode()),
    ]
    if offered.checksum:
        found.append((b"tus-checksum-algorithm", ",".join(algorithms).encode()))
    if max_size is not None:
        found.append((b"tus-max-size", b"%d" % max_size))
    return found


# --- fields --------------------------------------------------------------------------------

_NUMBER = re.compile(rb"0|[1-9][0-9]{0,18}")


def number(headers: Headers, name: bytes) -> int | None:
    """A size or offset in bytes; None when the field is absent (items 10 to 12).

    A number has no sign and no leading zero. Raises InvalidField.
    """
    value = fields.single(headers, name)
    if value is None:
        return None
    if _NUMBER.fullmatch(value) is None or (found := int(value)) > MAX_OFFSET:
        raise InvalidField(f"{fields.display_name(name)} is not a number of bytes.")
    return found


def _is_offset_stream(headers: Headers) -> bool:
    """Item 23: parameters are ignored, and so is case."""
    value = fields.first(headers, b"content-type")
    return value is not None and parse_media_type(value)[0] == CONTENT_TYPE


def _check_coding(headers: Headers) -> None:
    """Item 38: encoded bytes would be stored as they are, without a note of their coding."""
    if content_codings(headers):
        raise UnsupportedCoding


# --- commands --------------------------------------------------------------------------------


def create(
    headers: Headers,
    *,
    mount: str,
    generated: str,
    on_conflict: Conflict,
    accept_types: Sequence[str] = (),
) -> CreateUpload:
    """The command of a POST to the collection (items 44 to 51, 56, 102, 103).

    `mount`: path of the collection. `generated`: name for an upload that has none. Raises
    InvalidField, UnsupportedMediaType, NotFound.
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
    if accept_types and not partial:  # a part does not say what file it belongs to
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
    """What a creation says about its file; malformed fields, which `create` refuses, left out."""
    try:
        pairs = parse_metadata(fields.single(headers, b"upload-metadata") or b"")
    except InvalidField:
        pairs = {}
    try:
        length = number(headers, b"upload-length")
    except InvalidField:
        length = None
    return About(client_filename(pairs), decoded_metadata(pairs), (), length, media_type_of(pairs))


def _check_type(media_type: str | None, accept_types: Sequence[str]) -> None:
    if media_type is None or not matches_media_type(media_type, accept_types):
        raise UnsupportedMediaType(
            f"The media type {media_type or '(none)'} is not accepted here (--accept-types); "
            "Upload-Metadata tells it as filetype."
        )


def _length(headers: Headers, *, final: bool) -> int | None:
    """The length of a new upload; None when it is not known yet (items 44, 56, 103)."""
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
    creation: CreateUpload,
    content_length: int | None,
    sizes: Mapping[str, int],
    *,
    max_size: int | None,
    trailers: bool,
) -> AppendUpload | None:
    """The command to append the body of a creation (items 65, 69 to 71); None when it is ignored.

    It has no `upload_id` yet. What can be refused is refused here, before the upload exists.
    `content_length`: bytes of the body, None when not announced.
    """
    if content_length == 0:
        return None
    if not _is_offset_stream(headers):
        if content_type.is_form_data(headers):  # its files must not be ignored
            raise UnsupportedMediaType(
                f"The body of a creation is of {CONTENT_TYPE}, and this is a form. Post a form "
                "without the fields of tus, to a folder of files."
            )
        return None
    if creation.parts:
        raise Forbidden("A final upload is made of its parts; it takes no body.")
    _check_coding(headers)
    bound = creation.length if creation.length is not None else max_size
    if content_length is not None and bound is not None and content_length > bound:
        raise TooLarge(f"At most {bound} bytes may come.", limit=bound)
    whole = content_length is not None and content_length == creation.length
    return AppendUpload(
        "",
        "tus",
        0,
        expected=(
            *content_checksums(headers, sizes),
            *content_digests(headers),
            *(file_digests(headers) if whole else ()),
        ),
        digest_in_trailer=announces_trailer(headers, trailers),
    )


def append(
    headers: Headers, upload_id: str, sizes: Mapping[str, int], *, trailers: bool
) -> AppendUpload:
    """The command of a PATCH (items 23, 24, 38, 58, 84, 85). Raises InvalidField, and errors for
    media types and content codings.
    """
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
        expected=(*content_checksums(headers, sizes), *content_digests(headers)),
        digest_in_trailer=announces_trailer(headers, trailers),
    )


# --- answers -------------------------------------------------------------------------------


def expires(record: UploadRecord) -> Fields:
    """Upload-Expires of an upload that is not finished (items 74, 75, 78, 81)."""
    done = record.state is UploadState.COMPLETE and not Extra.of(record).partial
    if record.expires_at is None or done:
        return []
    return [(b"upload-expires", http_dates.http_date(record.expires_at))]


def head(record: UploadRecord) -> Fields:
    """The fields of an answer to HEAD (items 13 to 20, 79, 104, 105)."""
    found: Fields = [(b"cache-control", b"no-store")]
    extra = Extra.of(record)
    final = bool(extra.parts)
    if not final or record.state is UploadState.COMPLETE:
        found.append((b"upload-offset", b"%d" % record.offset))
    if record.length is not None:
        found.append((b"upload-length", b"%d" % record.length))
    elif not final:
        found.append((b"upload-defer-length", b"1"))
    if record.metadata:
        found.append((b"upload-metadata", record.metadata))
    if "concat" in extra.values:
        found.append((b"upload-concat", extra.values["concat"].encode("latin-1")))
    return [*found, *expires(record)]
