"""Names, charsets and types as clients send them; boundaries; what is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import InvalidField, InvalidRequest, MalformedBody
from forebay.protocol.multipart import FormLimits, MultipartParser, boundary_of
from forebay.protocol.multipart_head import parse_head


def head(disposition, *lines, charset="utf-8"):
    if isinstance(disposition, str):
        disposition = disposition.encode()
    block = b"\r\n".join([b"Content-Disposition: form-data; " + disposition, *lines])
    return parse_head(block, FormLimits(), charset)


# --- names ---------------------------------------------------------------------------------

NAMES = {
    # what curl, browsers and libraries were seen to send
    "field": ('name="a"', "a", None),
    "file": ('name="a"; filename="b.txt"', "a", "b.txt"),
    "token": ("name=a; filename=b.txt", "a", "b.txt"),
    "order": ('filename="b"; name="a"', "a", "b"),
    "case and blanks": ('NAME = "a" ;FileName= "b" ', "a", "b"),
    "trailing semicolon": ('name="a"; filename="b";', "a", "b"),
    "other parameters": ('name="a"; size=1; filename="b"', "a", "b"),
    "empty name": ('name=""', "", None),
    "UTF-8": ('name="ä"; filename="日本.txt"', "ä", "日本.txt"),
    "not UTF-8": (b'name="\xe4"; filename="\xe4\xff"', "ä", "äÿ"),
    "browser's quote": ('name="a%22b"; filename="%22"', 'a"b', '"'),
    "browser's line break": ('name="a%0D%0Ab"', "a\r\nb", None),
    "other percent signs": ('name="a%20%0d%25%%22"', 'a%20%0d%25%"', None),
    "curl's quote": (r'name="a\"b"; filename="say \"hi\""', 'a"b', 'say "hi"'),
    "path of old browsers": (r'name="a"; filename="C:\dir\new.txt"', "a", r"C:\dir\new.txt"),
    "backslashes": (r'name="a"; filename="\\host\a"', "a", r"\\host\a"),
    "ends with backslash": ('name="a"; filename="b\\"', "a", "b\\"),
    "name ends with backslash": ('name="a\\"; filename="b"', "a\\", "b"),
    "semicolon": ('name="a;b"; filename="c; name=d"', "a;b", "c; name=d"),
    "equals sign": ('name="a=b"; filename=c=d', "a=b", "c=d"),
    "extended wins": ('name="a"; filename="b"; filename*=UTF-8\'\'%e2%82%ac', "a", "€"),
    "extended alone": ("name=\"a\"; filename*=iso-8859-1'en'%e4", "a", "ä"),
    "extended and bad": ('name="a"; filename="b"; filename*=UTF-8\'\'%ff', "a", "b"),
    "traversal is not judged here": ('name="a"; filename="../b"', "a", "../b"),
}


@pytest.mark.parametrize(("sent", "name", "filename"), NAMES.values(), ids=NAMES.keys())
def test_names_are_read_as_they_were_meant(sent, name, filename):
    found = head(sent)
    assert (found.name, found.filename) == (name, filename)
    assert found.is_file == (filename is not None)


@given(st.text().filter(lambda text: "%" not in text))
def test_any_name_that_a_browser_sends_arrives(text):
    """WHATWG HTML: three characters escaped, all else as it is."""
    text = text.encode("utf-8", "replace").decode()
    if any((c < " " and c not in "\t\r\n") or c == "\x7f" for c in text):
        return
    sent = text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    found = head(f'name="{sent}"; filename="{sent}"')
    assert (found.name, found.filename) == (text, text)


REFUSED = {
    "no disposition": (b"a: b", "Content-Disposition"),
    "no name": (b"Content-Disposition: form-data", "no name"),
    "only a file name": (b'Content-Disposition: form-data; filename="a"', "no name"),
    "not form-data": (b'Content-Disposition: attachment; name="a"', "form-data"),
    "two names": (b"Content-Disposition: form-data; name=a; Name=b", "readable"),
    "two file names": (b"Content-Disposition: form-data; name=a; filename=a; filename=b", "reada"),
    "open quote": (b'Content-Disposition: form-data; name="a', "readable"),
    "junk after the quote": (b'Content-Disposition: form-data; name="a"b', "readable"),
    "blank in a token": (b"Content-Disposition: form-data; name=a b", "readable"),
    "no semicolon": (b"Content-Disposition: form-data name=a", "readable"),
    "two dispositions": (b"Content-Disposition: form-data; name=a\r\n" * 2 + b"x: y", "once"),
    "two types": (b"Content-Type: a/b\r\nContent-Type: a/b", "Content-Disposition|once"),
    "base64": (b"Content-Transfer-Encoding: base64", "Content-Transfer-Encoding"),
    "quoted-printable": (b"Content-Transfer-Encoding: Quoted-Printable", "binary"),
}


@pytest.mark.parametrize(("block", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_head_is_refused_and_told_why(block, says):
    with pytest.raises(MalformedBody, match=says):
        parse_head(block, FormLimits())


@pytest.mark.parametrize("coding", [b"7bit", b"8BIT", b"Binary"])
def test_codings_that_change_nothing_are_taken(coding):
    assert head('name="a"', b"content-transfer-encoding: " + coding).name == "a"


def test_nested_forms_are_refused_but_a_file_may_be_of_any_type():
    with pytest.raises(MalformedBody, match="multipart/mixed; send every file"):
        head('name="a"', b"Content-Type: multipart/mixed; boundary=b")
    page = head('name="a"; filename="page.mhtml"', b"Content-Type: multipart/related")
    assert page.media_type == "multipart/related"


# --- types and charsets --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("disposition", "sent", "kind"),
    [
        ('name="a"', [], "text/plain"),
        ('name="a"; filename="b"', [], "application/octet-stream"),
        ('name="a"; filename="b"', [b"Content-Type: Image/PNG"], "image/png"),
        ('name="a"; filename="b"', [b"Content-Type: nonsense"], "application/octet-stream"),
        ('name="a"', [b"content-type:application/json"], "application/json"),
    ],
)
def test_media_type(disposition, sent, kind):
    assert head(disposition, *sent).media_type == kind


def test_headers_are_kept_as_sent():
    found = head("name=a", b"X-Other:  b \t", b"x-other:\xff")
    assert found.headers[1:] == ((b"x-other", b"b"), (b"x-other", b"\xff"))


@pytest.mark.parametrize(
    ("label", "codec"),
    [(b"UTF-8", "utf-8"), (b'"Windows-1252"', "cp1252"), (b"ISO-8859-1", "iso8859-1")],
)
def test_charset_of_a_field(label, codec):
    assert head("name=a", b"Content-Type: text/plain; charset=" + label).charset == codec
    b"".decode(codec)


@pytest.mark.parametrize("label", [b"utf-7", b"utf-16", b"rot13", b"idna", b"punycode", b"x"])
def test_other_charsets_are_refused_for_fields_and_ignored_for_files(label):
    kind = b"Content-Type: text/plain; charset=" + label
    with pytest.raises(MalformedBody, match="UTF-8"):
        head("name=a", kind)
    assert head("name=a; filename=b", kind).charset is None


class Heads:
    def __init__(self):
        self.heads = []

    def begin_part(self, part):
        self.heads.append(part)

    def part_data(self, data): ...

    def end_part(self): ...


def heads(*parts):
    handler = Heads()
    parser = MultipartParser(b"b", FormLimits(), handler)
    for disposition, content in parts:
        head = f"--b\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
        parser.decode(head.encode() + content + b"\r\n")
    parser.decode(b"--b--")
    return handler.heads


def test_the_charset_field_is_the_default_of_later_fields():
    found = heads(
        ("name=a", b""), ("name=_charset_", b"windows-1252"), ("name=b", b""),
        ("name=c; filename=d", b""), ("name=_charset_; filename=e", b"koi8-r"), ("name=f", b""),
    )  # fmt: skip
    assert [h.charset for h in found] == ["utf-8", "utf-8", "cp1252", None, None, "cp1252"]


@pytest.mark.parametrize("value", [b"utf-7", b"x" * 1000, b""])
def test_a_charset_field_that_names_none_is_refused(value):
    with pytest.raises(MalformedBody, match="charset"):
        heads(("name=_charset_", value))


def test_an_input_without_a_chosen_file_is_told_apart():
    found = heads(
        ('name=a; filename=""', b""), ('name=b; filename=""', b"x"), ("name=c; filename=d", b"")
    )
    assert [h.empty_file for h in found] == [True, False, False]
    assert [h.filename for h in found] == ["", "", "d"]


# --- boundaries ----------------------------------------------------------------------------

BOUNDARIES = {
    b"multipart/form-data; boundary=x": b"x",
    b"Multipart/Form-Data ;charset=utf-8; BOUNDARY=x": b"x",
    b'multipart/form-data; boundary="a b:c"': b"a b:c",
    b"multipart/form-data; boundary=a/b:c=d": b"a/b:c=d",
    b"multipart/form-data; boundary=" + b"-" * 70: b"-" * 70,
    b"multipart/form-data; boundary=----WebKitFormB7MA4YW": b"----WebKitFormB7MA4YW",
    b'multipart/form-data; boundary="\'()+_,-./:=?"': b"'()+_,-./:=?",
    b"multipart/form-data; boundary=x;": b"x",
}


@pytest.mark.parametrize(("sent", "boundary"), BOUNDARIES.items())
def test_boundary(sent, boundary):
    assert boundary_of(sent) == boundary


@pytest.mark.parametrize(
    "parameters",
    [
        b"", b";", b"; boundary=", b'; boundary=""', b"; boundary=" + b"x" * 71,
        b'; boundary="a "', b"; boundary=a b", b'; boundary="a', b"; boundary=a@b",
        b"; boundary=a; boundary=a", b'; boundary="a\\"b"', b"; boundary=\xe4", b"; boundary=a\tb",
        b'; boundary="a\r\nb"', b" boundary=a",
    ],
)  # fmt: skip
def test_a_bad_boundary_is_refused(parameters):
    with pytest.raises((InvalidField, InvalidRequest)):
        boundary_of(b"multipart/form-data" + parameters)


@pytest.mark.parametrize("kind", [b"", b"multipart/mixed", b"text/plain", b"multipart/form-dat"])
def test_what_is_no_form_is_refused(kind):
    with pytest.raises(InvalidRequest, match="form-data"):
        boundary_of(kind + b"; boundary=x")


@given(st.binary(max_size=60))
def test_any_content_type_gives_a_boundary_or_a_refusal(noise):
    for sent in (noise, b"multipart/form-data; boundary=" + noise):
        with contextlib.suppress(InvalidField, InvalidRequest):
            assert 1 <= len(boundary_of(sent)) <= 70
