"""What may be taken for a whole file, and what is in the terms of a resumable protocol."""

from __future__ import annotations

import pytest

from forebay.errors import InvalidField, NotOffered, UploadError
from forebay.model import Conflict
from forebay.protocol import raw, whole_file

SIZE = (b"content-length", b"18")
V3 = (b"upload-draft-interop-version", b"3")

PARTS: list[list[tuple[bytes, bytes]]] = [
    *(
        [(name, value)]
        for name in sorted(whole_file.FIELDS)
        for value in (b"", b"1", b"junk", b"0")
    ),
    [(b"tus-resumable", b"0.2.2")],
    [(b"upload-complete", b"?0")],
    [(b"upload-complete", b"true")],
    [(b"upload-complete", b"?1"), (b"upload-complete", b"?1")],
    [(b"upload-complete", b"?1"), (b"upload-complete", b"?0")],
    [(b"upload-complete", b"?1"), (b"upload-offset", b"5")],
    [(b"upload-complete", b"?1"), (b"upload-offset", b"x")],
    [(b"upload-complete", b"?1"), (b"upload-length", b"100")],
    [(b"upload-complete", b"?1"), (b"upload-length", b"all")],
    [(b"upload-complete", b"?1"), (b"tus-resumable", b"1.0.0")],
    [V3, (b"upload-incomplete", b"?1")],
    [V3, (b"upload-complete", b"?1")],
    [V3, (b"upload-incomplete", b"?0"), (b"upload-complete", b"?0")],
    [(b"upload-incomplete", b"?0")],
    [(b"upload-incomplete", b"?1")],
    [(b"content-range", b"bytes 0-17/100")],
    [(b"content-range", b"")],
    [(b"content-type", b"application/offset+octet-stream")],
    [(b"content-type", b"Application/Partial-Upload;x=y")],
    [(b"content-type", b"application/partial-upload, text/plain")],
    [(b"content-type", b"text/plain"), (b"content-type", b"application/partial-upload")],
    [(b"x-content-range", b"bytes 0-17/100")],
    [(b"x-upload-content-length", b"100")],
    [(b"x-goog-upload-protocol", b"resumable"), (b"x-goog-upload-command", b"start")],
    [(b"upload-complete", b"?1"), (b"oc-chunked", b"1")],
    [(b"x-http-method", b"PATCH")],
    [(b"x-method-override", b"PATCH")],
    [(b"x-http-method-override", b"PATCH")],
    [(b"x-http-method-override", b"")],
    [(b"x-http-method-override", b"PUT"), (b"x-http-method-override", b"DELETE")],
]


@pytest.mark.parametrize("fields", PARTS, ids=str)
def test_what_speaks_a_resumable_protocol_is_no_whole_file(
    fields: list[tuple[bytes, bytes]],
) -> None:
    for headers in ([SIZE, *fields], [*fields, SIZE]):
        with pytest.raises(UploadError) as caught:
            whole_file.check("PUT", headers)
        assert len(caught.value.message) > 30  # says what to do


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"content-type", b"text/plain")],
        [(b"upload-complete", b"?1")],
        [(b"upload-complete", b"?1"), (b"upload-draft-interop-version", b"8")],
        [(b"upload-complete", b"?1"), (b"upload-length", b"18"), (b"upload-offset", b"0")],
        [V3, (b"upload-incomplete", b"?0")],
        [(b"x-http-method-override", b"put")],
        [(b"range", b"bytes=0-5")],
        [(b"upload-limit", b"min-size=0")],
    ],
    ids=str,
)
def test_what_is_whole_is_taken(fields: list[tuple[bytes, bytes]]) -> None:
    whole_file.check("PUT", [SIZE, *fields])


def test_a_told_length_needs_one_to_compare_it_with() -> None:
    told = [(b"upload-complete", b"?1"), (b"upload-length", b"18")]
    with pytest.raises(UploadError, match="Content-Length"):
        whole_file.check("PUT", [*told, (b"transfer-encoding", b"chunked")])


def test_an_upload_begins_at_its_first_byte() -> None:
    begins = (b"upload-complete", b"?0")
    whole_file.check_beginning("PUT", [begins])
    whole_file.check_beginning("PUT", [begins, (b"upload-offset", b"0")])
    for offset in (b"5", b"", b"-1", b"0, 0"):
        with pytest.raises(UploadError, match="byte 0"):
            whole_file.check_beginning("PUT", [begins, (b"upload-offset", offset)])
    with pytest.raises(UploadError, match="Override"):
        whole_file.check_beginning("PUT", [begins, (b"x-http-method-override", b"PATCH")])


@pytest.mark.parametrize("name", [b"tus-resumable", b"upload-metadata", b"x-content-range"])
def test_an_upload_begins_in_the_terms_of_one_protocol(name: bytes) -> None:
    for said in (b"?0", b"?1"):
        with pytest.raises(UploadError) as caught:
            whole_file.check_beginning("PUT", [(b"upload-complete", said), (name, b"1")])
        assert len(caught.value.message) > 30


def test_a_part_that_a_route_of_an_application_gets_is_to_be_sent_whole() -> None:
    """Bug: it was told that resumable uploads are off, which was not so and would not help."""
    headers = [SIZE, (b"content-range", b"bytes 0-17/100")]

    def ask(own_path: bool) -> None:
        raw.command(
            *("PUT", ["a"], headers, {}),
            on_conflict=Conflict.AUTO,
            accept_types=(),
            generated="g",
            own_path=own_path,
        )

    with pytest.raises(InvalidField, match="send it whole"):
        ask(own_path=False)
    with pytest.raises(NotOffered):
        ask(own_path=True)
