"""What is a form, what is a file, and what is refused because nobody can tell."""

from __future__ import annotations

import pytest

from forebay.errors import InvalidField, UnsupportedMediaType, UploadError
from forebay.model import Conflict
from forebay.protocol import content_type, ietf, partial, raw

FORMS = [
    b"multipart/form-data",
    b"multipart/form-data; boundary=x",
    b"MULTIPART/Form-Data;boundary=x",
    b"multipart/form-data, boundary=AaB03x",  # the example of RFC 1867
    b"multipart/form-data boundary=x",
    b"multipart/form-data\tjunk",
    b" \tmultipart/form-data; boundary=x",
    b'"multipart/form-data"; boundary=x',
    b"'multipart/form-data'; boundary=x",
    b"multipart/form-data\xa0; boundary=x",
    b"multipart/form-data;;;" + b";" * 60_000,
    b"multipart/form-data\x00",
    b"multipart/form-data/x; boundary=x",
]
OF_PARTS = [
    *(b"multipart/mixed; boundary=x", b"multipart/related", b"Multipart/X", b"multipart/a;b"),
    *(b"multi-part/form-data", b"mulitpart/form-data", b"application/form-data", b"form/multipart"),
    *(b"application/multipart-formdata", b"multiparty/form-data", b"x-multipart/x-form_data"),
    *(b"text/plain; boundary=x", b'application/json; charset=utf-8; BOUNDARY="--x"'),
]
UNREADABLE = [
    b"multipart",
    b"multipart/",
    b"multipart /form-data; boundary=x",
    b"multipart/ form-data; boundary=x",
    b"text/plain, multipart/form-data; boundary=x",
    b"text/plain multipart/form-data; boundary=x",
    b"\xff\xfemultipart/form-data; boundary=x",
    b"form-data; boundary=x",
    b"image",
    b"text/plain, text/html",
    b";",
    b'"image/png"',
]
FILES = {
    None: "",
    b"": "",
    b" \t": "",
    b"image/PNG": "image/png",
    b"text/plain;": "text/plain",
    b"text/plain; charset": "text/plain",
    b"*/*": "*/*",
    b"multiparty/x": "multiparty/x",
    b"application/x-formula-data": "application/x-formula-data",
    b'text/plain; title="boundary=x"': "text/plain",
    b"application/x-www-form-urlencoded": "application/x-www-form-urlencoded",
}


def sent(value):
    return [] if value is None else [(b"content-type", value)]


@pytest.mark.parametrize("value", FORMS)
def test_what_begins_like_a_form_is_one_for_whoever_takes_forms_and_no_file(value):
    assert content_type.is_form_data(sent(value))
    with pytest.raises((InvalidField, UnsupportedMediaType)):
        content_type.file_type(sent(value))


@pytest.mark.parametrize("value", [*OF_PARTS, *UNREADABLE])
def test_a_type_of_parts_or_one_that_cannot_be_read_is_neither(value):
    assert not content_type.is_form_data(sent(value))
    error = UnsupportedMediaType if value in OF_PARTS else InvalidField
    with pytest.raises(error):
        content_type.file_type(sent(value))


@pytest.mark.parametrize(("value", "kind"), FILES.items())
def test_any_other_type_is_that_of_a_file(value, kind):
    assert not content_type.is_form_data(sent(value))
    assert content_type.file_type(sent(value)) == kind


def test_a_field_that_comes_twice_says_nothing_of_a_file():
    with pytest.raises(InvalidField):
        content_type.file_type(sent(b"text/plain") * 2)
    assert content_type.is_form_data([*sent(b"text/plain"), *sent(FORMS[0])])


def stored(method, headers):
    return raw.command(
        method, ["a"], headers, {}, on_conflict=Conflict.AUTO,
        accept_types=(), generated="g",
    )  # fmt: skip


@pytest.mark.parametrize("value", [*FORMS, *OF_PARTS, *UNREADABLE])
def test_no_dialect_stores_a_form_as_a_file(value):
    headers = sent(value)
    append = [*headers, (b"upload-offset", b"3"), (b"upload-draft-interop-version", b"4")]
    for attempt in (
        lambda: stored("PUT", headers),
        lambda: stored("POST", headers),
        lambda: stored("PUT", [*headers, *sent(b"text/plain")]),
        lambda: partial.read([*headers, (b"content-range", b"bytes 0-0/2")], 1),
        lambda: partial.read([*headers, (b"content-range", b"bytes 1-1/2")], 1),
        lambda: ietf.append(ietf.read(append), "id", append),
    ):
        with pytest.raises(UploadError):
            attempt()


def test_a_refused_form_is_told_where_forms_go():
    with pytest.raises(UnsupportedMediaType, match=r"Post a form .*curl -F file=@NAME"):
        stored("PUT", sent(b"multipart/form-data; boundary=x"))
    with pytest.raises(InvalidField, match="type/subtype"):
        stored("PUT", sent(b"image"))
