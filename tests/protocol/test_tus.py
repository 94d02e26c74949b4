"""The wire rules of tus 1.0: heads in, commands and fields out."""

from __future__ import annotations

import base64
import dataclasses
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import (
    Forbidden,
    InvalidField,
    NotFound,
    PreconditionFailed,
    TooLarge,
    UnsupportedCoding,
    UnsupportedMediaType,
)
from forebay.model import Conflict, Digest, Offered, UploadRecord, UploadState
from forebay.protocol import tus, tus_checksum

SIZES = {"sha1": 20, "crc32": 4}
STREAM = (b"content-type", b"application/offset+octet-stream")
VERSION = (b"tus-resumable", b"1.0.0")
ID = "x" * 32

Headers = list[tuple[bytes, bytes]]


def heads(**fields: str) -> Headers:
    return [(k.replace("_", "-").encode(), v.encode()) for k, v in fields.items()]


def create(**fields: str):
    return tus.create(
        heads(**fields), mount="/uploads", generated="made-up", on_conflict=Conflict.AUTO
    )


# --- which requests are meant ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "headers", "speaks"),
    [
        ("POST", [VERSION], True),
        ("POST", heads(upload_length="3"), True),
        ("POST", heads(upload_defer_length="1"), True),
        ("POST", heads(upload_concat="partial"), True),
        ("PATCH", [STREAM], True),
        ("POST", heads(x_http_method_override="PATCH"), True),
        ("POST", heads(upload_length="3", upload_complete="?1"), False),
        ("POST", heads(upload_length="3", upload_draft_interop_version="6"), False),
        ("PATCH", [(b"content-type", b"application/partial-upload")], False),
        ("HEAD", [], False),
        ("DELETE", [], False),
        ("HEAD", [VERSION], True),
        ("POST", [VERSION, (b"upload-complete", b"?1")], True),
        ("POST", [], False),
    ],
)
def test_a_request_is_recognised_also_without_its_version(
    method: str, headers: Headers, speaks: bool
) -> None:
    """Item 3: who forgot it is told so; the IETF's requests are not meant."""
    assert tus.speaks(method, headers) is speaks


@pytest.mark.parametrize(
    ("method", "override", "meant"),
    [
        ("POST", None, "POST"),
        ("POST", "PATCH", "PATCH"),
        ("POST", "delete", "DELETE"),
        ("POST", "Head", "HEAD"),
        ("POST", "post", "POST"),
        ("PATCH", "PATCH", "PATCH"),
        ("PATCH", "DELETE", "DELETE"),
        ("HEAD", "PATCH", "PATCH"),
        ("GET", "post", "POST"),
        ("PUT", "HEAD", "HEAD"),
        ("POST", "GET", "GET"),
        ("POST", "PUT", None),
        ("POST", "", None),
        ("POST", "PATCH, HEAD", None),
    ],
)
def test_the_method_that_is_meant(method: str, override: str | None, meant: str | None) -> None:
    """Item 9."""
    headers = [] if override is None else heads(x_http_method_override=override)
    if meant is None:
        with pytest.raises(InvalidField):
            tus.method_of(method, headers)
    else:
        assert tus.method_of(method, headers) == meant


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "HEAD"])
def test_the_version_is_checked(method: str) -> None:
    """Items 2 to 4."""
    tus.check_version(method, [VERSION])
    for wrong in (b"0.2.2", b"1.0", b"", b"1.0.0, 1.0.0"):
        with pytest.raises(PreconditionFailed):
            tus.check_version(method, [(b"tus-resumable", wrong)])
    if method == "HEAD":
        tus.check_version(method, [])
    else:
        with pytest.raises(PreconditionFailed):
            tus.check_version(method, [])


# --- numbers ---------------------------------------------------------------------------------


@given(st.integers(0, 2**63 - 1))
def test_every_length_that_a_file_can_have_is_read(number: int) -> None:
    """Item 10."""
    assert tus.number([(b"upload-offset", str(number).encode())], b"upload-offset") == number


@given(st.binary(max_size=24))
def test_nothing_but_a_canonical_number_is_read(value: bytes) -> None:
    """Items 10 and 11: what is read is written the same way again."""
    try:
        found = tus.number([(b"upload-length", value)], b"upload-length")
    except InvalidField:
        return
    assert found is not None and str(found).encode() == value and found < 2**63


# --- creation --------------------------------------------------------------------------------


def test_a_creation_becomes_a_command() -> None:
    """Items 44, 48 and 102."""
    name, kind = (base64.b64encode(t).decode() for t in (b"a/b.txt", b"text/plain; x=y"))
    command = create(upload_length="5", upload_metadata=f"filename {name},filetype {kind},z")
    assert (command.dialect, command.name, command.length) == ("tus", "b.txt", 5)
    assert command.media_type == "text/plain"
    assert command.metadata == f"filename {name},filetype {kind},z".encode()
    assert command.conflict is Conflict.RENAME
    assert not command.partial and command.parts == ()
    assert create(upload_defer_length="1").length is None
    assert create(upload_length="0", upload_concat="partial").partial
    final = create(upload_concat=f"final;/uploads/{ID}")
    assert (final.parts, final.name) == ((ID,), "made-up")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"upload_length": "1", "upload_defer_length": "1"},
        {"upload_defer_length": "0"},
        {"upload_concat": f"final;/uploads/{ID}", "upload_length": "1"},
        {"upload_concat": f"final;/uploads/{ID}", "upload_defer_length": "1"},
        {"upload_concat": "partial"},
    ],
    ids=str,
)
def test_a_creation_with_a_wrong_length_is_refused(fields: dict[str, str]) -> None:
    """Items 44, 56 and 103."""
    with pytest.raises(InvalidField):
        create(**fields)


def body_of(headers: Headers, length: int | None, command=None, max_size: int | None = None):
    command = command or create(upload_length="5")
    return tus.content_of_creation(
        headers, command, length, SIZES, max_size=max_size, trailers=False
    )


def test_the_body_of_a_creation_counts_by_its_type() -> None:
    """Items 65 and 69 to 71."""
    assert body_of([], 3) is None
    assert body_of([STREAM], 0) is None
    for length in (5, None):
        content = body_of([STREAM], length)
        assert content is not None and content.offset == 0
    with pytest.raises(TooLarge):
        body_of([STREAM], 6)
    with pytest.raises(TooLarge):
        body_of([STREAM], 6, create(upload_defer_length="1"), max_size=5)
    with pytest.raises(Forbidden):
        body_of([STREAM], 1, create(upload_concat=f"final;/uploads/{ID}"))
    with pytest.raises(UnsupportedCoding):
        body_of([STREAM, (b"content-encoding", b"gzip")], 1)


# --- append ----------------------------------------------------------------------------------


def append(headers: Headers, *, trailers: bool = False):
    return tus.append(headers, ID, SIZES, trailers=trailers)


def test_a_patch_becomes_a_command() -> None:
    """Items 24, 58, 84 and 93."""
    digest = hashlib.sha1(b"abc", usedforsecurity=False).digest()
    checksum = b"sha1 " + base64.b64encode(digest)
    command = append(
        [STREAM, *heads(upload_offset="3", upload_length="9"), (b"upload-checksum", checksum)]
    )
    assert (command.upload_id, command.dialect, command.offset, command.length) == (ID, "tus", 3, 9)
    assert command.expected == (Digest("sha1", digest),)
    assert command.completes is None and not command.digest_in_trailer
    late = [STREAM, *heads(upload_offset="0", trailer="X, Upload-Checksum")]
    assert append(late, trailers=True).digest_in_trailer
    with pytest.raises(InvalidField):
        append(late)


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        (heads(upload_offset="0"), UnsupportedMediaType),
        ([STREAM], InvalidField),
        ([STREAM, *heads(upload_offset="-1")], InvalidField),
        ([STREAM, *heads(upload_offset="0"), *heads(upload_offset="0")], InvalidField),
        ([STREAM, *heads(upload_offset="0", content_encoding="gzip")], UnsupportedCoding),
        ([STREAM, *heads(upload_offset="0", upload_checksum="sha9 AAAA")], InvalidField),
    ],
)
def test_a_patch_that_cannot_be_is_refused(headers: Headers, error: type[Exception]) -> None:
    """Items 12, 23, 24, 38 and 85."""
    with pytest.raises(error):
        append(headers)


@given(st.binary(max_size=40))
def test_any_checksum_is_read_or_refused(value: bytes) -> None:
    """Items 84, 85 and 89."""
    try:
        digest = tus_checksum.parse_checksum(value, SIZES)
    except InvalidField:
        return
    assert len(digest.value) == SIZES[digest.algorithm]


def test_late_checksums_agree_with_the_head() -> None:
    """Items 94 and 95."""
    value = b"crc32 " + base64.b64encode(b"abcd")
    trailer = [(b"x", b"y"), (b"upload-checksum", value)]
    digest = (Digest("crc32", b"abcd"),)
    assert tus_checksum.trailer_checksums(trailer, (), SIZES) == digest
    assert tus_checksum.trailer_checksums(trailer, digest, SIZES) == digest
    for found, head in (([], ()), (trailer, (Digest("crc32", b"dcba"),)), ([*trailer] * 2, ())):
        with pytest.raises(InvalidField):
            tus_checksum.trailer_checksums(found, head, SIZES)


# --- answers ---------------------------------------------------------------------------------

RECORD = UploadRecord(
    id=ID,
    principal="",
    dialect="tus",
    state=UploadState.OPEN,
    offset=3,
    length=9,
    name="f",
    created_at=0.0,
    expires_at=784111777.5,
    metadata=b"a YQ==,  b",
    extra=b'{"completes_by_length": true}',
)


def told(**changes: object) -> dict[str, str]:
    record = dataclasses.replace(RECORD, **changes)  # type: ignore[arg-type]
    return {k.decode(): v.decode() for k, v in tus.head(record)}


def test_what_head_tells() -> None:
    """Items 13 to 20, 75, 78, 104 and 105."""
    assert told() == {
        "cache-control": "no-store",
        "upload-offset": "3",
        "upload-length": "9",
        "upload-metadata": "a YQ==,  b",
        "upload-expires": "Sun, 06 Nov 1994 08:49:37 GMT",
    }
    deferred = told(length=None)
    assert deferred["upload-defer-length"] == "1" and "upload-length" not in deferred
    assert "upload-expires" not in told(state=UploadState.COMPLETE)
    assert "upload-expires" not in told(expires_at=None)
    part = told(state=UploadState.COMPLETE, extra=b'{"partial": true, "concat": "partial"}')
    assert part["upload-concat"] == "partial" and "upload-expires" in part
    extra = b'{"parts": ["x"], "concat": "final;/uploads/x"}'
    making = told(extra=extra)
    assert "upload-offset" not in making and making["upload-length"] == "9"
    assert making["upload-concat"] == "final;/uploads/x"
    assert told(extra=extra, state=UploadState.COMPLETE)["upload-offset"] == "3"
    assert "upload-defer-length" not in told(extra=extra, length=None)


def test_what_options_tells() -> None:
    """Items 6 to 8, 40, 82 and 92."""
    fields = dict(tus.offer(["sha1", "md5"], None, Offered(), trailers=False))
    assert fields[b"tus-checksum-algorithm"] == b"sha1,md5"
    assert b"tus-max-size" not in fields
    assert b"checksum-trailer" not in fields[b"tus-extension"]
    fields = dict(tus.offer(["sha1"], 5, Offered(), trailers=True))
    assert fields[b"tus-max-size"] == b"5"
    assert fields[b"tus-extension"].endswith(b"checksum-trailer")


def test_an_id_is_judged_the_same_everywhere() -> None:
    """Item 111."""
    from forebay.protocol.tus_concat import parse_concat
    from forebay.protocol.upload_ids import upload_id_of

    assert upload_id_of(b"/") is None and upload_id_of(b"") is None
    assert upload_id_of(b"/" + ID.encode() + b"/") == ID
    for bad in ("short", "a.b" * 10, "x" * 129):
        with pytest.raises(NotFound):
            upload_id_of(bad.encode())
        with pytest.raises(NotFound):
            parse_concat(f"final;/uploads/{bad}".encode(), "/uploads")
