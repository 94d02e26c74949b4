"""Names, charsets and types as clients send them; boundaries; what is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import InvalidField, InvalidRequest, MalformedBody
from forebay.protocol import charsets
from forebay.protocol.form_type import boundary_of, charset_of
from forebay.protocol.multipart import MultipartParser
from forebay.protocol.multipart_head import parse_head
from form_limits import form_limits


def head(disposition, *lines, charset="utf-8"):
    if isinstance(disposition, str):
        disposition = disposition.encode()
    block = b"\r\n".join([b"Content-Disposition: form-data; " + disposition, *lines])
    return parse_head(block, form_limits(), charset)


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
    "curl's backslashes": (r'name="a"; filename="\\host\a"', "a", r"\host\a"),
    "ends with backslash": ('name="a"; filename="b\\"', "a", "b\\"),
    "name ends with backslash": ('name="a\\"; filename="b"', "a\\", "b"),
    "semicolon": ('name="a;b"; filename="c; name=d"', "a;b", "c; name=d"),
    "equals sign": ('name="a=b"; filename=c=d', "a=b", "c=d"),
    "extended wins": ('name="a"; filename="b"; filename*=UTF-8\'\'%e2%82%ac', "a", "€"),
    "extended alone": ("name=\"a\"; filename*=iso-8859-1'en'%e4", "a", "ä"),
    "extended in a charset of its own": ("name=a; filename*=GBK''%C8%D5%B1%BE", "a", "日本"),
    "extended and bad": ('name="a"; filename="b"; filename*=UTF-8\'\'%ff', "a", "b"),
    "traversal is not judged here": ('name="a"; filename="../b"', "a", "../b"),
}


@pytest.mark.parametrize(("sent", "name", "filename"), NAMES.values(), ids=NAMES.keys())
def test_names_are_read_as_they_were_meant(sent, name, filename):
    found = head(sent)
    assert (found.name, found.filename) == (name, filename)
    assert found.is_file == (filename is not None)


@given(st.text().filter(lambda text: "%" not in text and "\\\\" not in text))
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
        parse_head(block, form_limits())


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


def test_a_folded_header_is_one_line():
    block = (
        b'Content-Disposition: form-data;\r\n\tname=a;\r\n  filename="b\r\n c.txt"\r\n'
        b"Content-Type:\r\n text/plain;\r\n charset=x"
    )
    found = parse_head(block, form_limits(max_headers=2))
    assert (found.name, found.filename, found.media_type) == ("a", "b c.txt", "text/plain")


def test_a_head_with_parameters_by_the_thousand_is_refused():
    for more in (b";" * 16_000, b";a=b" * 4000, b'; a="\\"' * 2000):
        with pytest.raises(MalformedBody, match="readable"):
            head(b"name=a" + more)


@pytest.mark.parametrize(
    ("label", "codec"),
    [(b"UTF-8", "utf-8"), (b'"Windows-1252"', "cp1252"), (b"ISO-8859-1", "iso8859-1")],
)
def test_charset_of_a_field(label, codec):
    assert head("name=a", b"Content-Type: text/plain; charset=" + label).charset == codec
    b"".decode(codec)


# What Python has codecs for and what is no charset of a form, and one that is nothing at all.
NO_CHARSETS = (
    "utf-7", "rot13", "rot_13", "idna", "punycode", "unicode_escape", "raw_unicode_escape", "zip",
    "zlib", "bz2", "hex", "base64", "uu", "quopri", "undefined", "mbcs", "oem", "hz", "cp037",
    "cp500", "iso-2022-kr", "utf-32", "palmos", "", "x" * 60, "../a",
)  # fmt: skip


@pytest.mark.parametrize("label", NO_CHARSETS)
def test_what_is_no_charset_is_ignored_and_refuses_nothing(label):
    kind = f'Content-Type: text/plain; charset="{label}"'.encode()
    assert head("name=a", kind, charset="cp1252").charset == "utf-8"
    assert head("name=a; filename=b", kind).charset is None
    assert charsets.codec_of(label, wide=True) is None
    assert boundary_charset(f'; charset="{label}"') == "utf-8"


CHARSETS = {
    "GBK": "中文", "gb2312": "中文", "GB18030": "中文\U00020087", "Shift_JIS": "表示①", "sjis": "ｱ",
    "windows-31j": "～", "EUC-JP": "日本", "ISO-2022-JP": "日本", "Big5": "中文", "EUC-KR": "한국",
    "ks_c_5601-1987": "한국", "KOI8-R": "Привет", "windows-1251": "Привет", "ISO-8859-15": "€",
    "latin1": "é", "UTF8": "é€", "cp866": "Привет", "macintosh": "é", "TIS-620": "ไทย",
    "cp437": "é",
}  # fmt: skip


@pytest.mark.parametrize(("label", "text"), CHARSETS.items())
def test_text_is_read_in_the_charset_that_it_names(label, text):
    codec = head("name=a", f"Content-Type: text/plain; charset={label}".encode()).charset
    sent = text.encode(codec)
    assert charsets.text_of(sent, codec) == text
    assert charsets.text_of(bytearray(sent), charsets.codec_of(f" '{label.upper()}' ")) == text
    assert boundary_charset(f"; charset={label}") == codec


def test_text_that_no_form_can_be_in_may_still_be_that_of_a_field():
    codec = head("name=a", b"Content-Type: text/plain; charset=utf-16").charset
    assert charsets.text_of("é€".encode("utf-16"), codec) == "é€"
    assert boundary_charset("; charset=utf-16") == "utf-8"


@given(st.binary(max_size=30), st.sampled_from(sorted({*CHARSETS, "utf-16", "us-ascii"})))
def test_bytes_that_are_no_text_are_kept_all_the_same(content, label):
    codec = charsets.codec_of(label, wide=True)
    text = charsets.text_of(content, codec)
    assert any(decodes(content, one) == text for one in (codec, "utf-8", "latin-1"))


def decodes(content, codec):
    try:
        return content.decode(codec)
    except UnicodeDecodeError:
        return None


@pytest.mark.parametrize(
    ("sent", "declared", "name"),
    [
        ("表.txt".encode("cp932"), "cp932", "表.txt"),  # its second byte is a backslash
        ("表".encode("cp932"), "cp932", "表"),
        ("中文.txt".encode("gbk"), "gb18030", "中文.txt"),
        ("é.txt".encode("latin-1"), "cp1252", "é.txt"),
        ("é.txt".encode(), "cp1252", "é.txt"),  # says so, and sends UTF-8
        ("Привет".encode("koi8-r"), "koi8-r", "Привет"),
        (b"\xff\xfe", "gb18030", "ÿþ"),
    ],
)
def test_names_are_in_the_charset_of_their_form(sent, declared, name):
    found = head(b'name="' + sent + b'"; filename="' + sent + b'"', charset=declared)
    assert (found.name, found.filename) == (name, name)


def test_a_name_in_the_charset_of_its_part_is_read_where_it_is_not_utf_8():
    kind = b"Content-Type: text/plain; charset=GBK"
    assert head(b'name="a"; filename="' + "中文".encode("gbk") + b'"', kind).filename == "中文"
    assert head('name="a"; filename="日本"', kind).filename == "日本"


def boundary_charset(more):
    return charset_of(b"multipart/form-data; boundary=x" + more.encode())


class Heads:
    def __init__(self):
        self.heads = []

    def begin_part(self, part):
        self.heads.append(part)

    def part_data(self, data): ...

    def end_part(self): ...


def heads(*parts):
    handler = Heads()
    parser = MultipartParser(b"b", form_limits(), handler)
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


@pytest.mark.parametrize("value", [b"utf-7", b"x" * 1000, b"", b"\xff"])
def test_a_charset_field_that_names_none_is_ignored(value):
    found = heads(("name=_charset_", b"gbk"), ("name=_charset_", value), ("name=a", b""))
    assert found[-1].charset == "gb18030"


def test_an_input_without_a_chosen_file_is_told_apart():
    found = heads(
        ('name=a; filename=""', b""), ('name=b; filename=""', b"x"), ("name=c; filename=d", b"")
    )
    assert [h.empty_file for h in found] == [True, False, False]
    assert [h.filename for h in found] == ["", "b.bin", "d"]
    assert [h.made_name for h in found] == [False, True, False]


UNNAMED = {
    # the type says that it is a file
    ("name=photo", "application/octet-stream"): "photo.bin",
    ("name=photo", "image/jpeg"): "photo.jpg",
    ("name=photo", "IMAGE/PNG; x=y"): "photo.png",
    ("name=drawing", "image/svg+xml"): "drawing.svg",
    ("name=model", "model/gltf+json"): "model.gltf",
    ("name=doc", "application/pdf"): "doc.pdf",
    ("name=a", "nonsense"): "a.bin",
    ("name=a", "application/x-unheard-of"): "a.bin",
    ("name=scan.tiff", "application/octet-stream"): "scan.tiff",
    ('name="files[]"', "video/mp4"): "files.mp4",
    ('name=""', "video/mp4"): "file.mp4",
    ('name="../../etc/x"', "video/mp4"): "x.mp4",
    ('name=".."', "video/mp4"): "file.mp4",
    ('name=".env"', "application/octet-stream"): "env.bin",
    ('name="a%0D%0Ab"', "video/mp4"): "file.mp4",
    ('name="日本"', "image/gif"): "日本.gif",
    (f'name="{"é" * 300}"', "image/gif"): "é" * 60 + ".gif",
    # what was to be a name says it
    ("name=a; filename*=UTF-8''%ff", "text/plain"): "a.txt",
    ("name=a; filename*=utf-7''%41", ""): "a.bin",
    ("name=a; filename*=nothing", ""): "a.bin",
    ('name=a; filename*=""', ""): "a.bin",
    ("name=a; filename*0=b; filename*1=c", ""): "a.bin",
    ("name=a; filename=\"\"; filename*=UTF-8''%ff", "image/gif"): "a.gif",
}


@pytest.mark.parametrize(("sent", "filename"), UNNAMED.items())
def test_a_part_that_says_it_is_a_file_is_one_with_a_name_of_ours(sent, filename):
    disposition, kind = sent
    found = head(disposition, *([f"Content-Type: {kind}".encode()] if kind else []))
    assert (found.is_file, found.filename, found.made_name) == (True, filename, True)
    assert not found.empty_file


def test_a_file_name_in_a_charset_that_nobody_named_does_not_refuse_the_file():
    named = b'name="photo"; filename="' + "表.jpg".encode("shift_jis").replace(b"\\", b"") + b'"'
    assert b"\x95" in named  # a control character of ISO-8859-1
    found = head(named, b"Content-Type: image/jpeg")
    assert (found.filename, found.made_name) == ("photo.jpg", True)
    assert head(b'name=a; filename="\xe9.txt"').filename == "é.txt"
    # Whoever writes UTF-8 means that character, which no name may have.
    assert head('name=a; filename="a\x85.txt"').filename == "a\x85.txt"


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "text/csv; charset=x", "application/json", "Application/XML", "text/xml",
     "application/x-www-form-urlencoded", "application/ld+json", "application/soap+xml", " "],
)  # fmt: skip
def test_a_part_without_a_file_name_whose_type_is_text_is_a_field(kind):
    found = head("name=a", b"Content-Type: " + kind.encode())
    assert (found.is_file, found.filename, found.made_name) == (False, None, False)


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
    b"multipart/form-data;boundary=*****": b"*****",  # Android's HttpURLConnection, everywhere
    b"multipart/form-data; boundary=*+-_.!~#$%&|^`": b"*+-_.!~#$%&|^`",
    b"multipart/form-data; boundary=a@b<c>{d}[e]": b"a@b<c>{d}[e]",
    b'multipart/form-data; boundary="a;b, c@d"': b"a;b, c@d",
    b"multipart/form-data; boundary='a'": b"'a'",
    b"multipart/form-data; charset=GBK; boundary=--dio-boundary-1": b"--dio-boundary-1",
}


@pytest.mark.parametrize(("sent", "boundary"), BOUNDARIES.items())
def test_boundary(sent, boundary):
    assert boundary_of(sent) == boundary


@pytest.mark.parametrize(
    "parameters",
    [
        b"", b";", b"; boundary=", b'; boundary=""', b"; boundary=" + b"x" * 71,
        b'; boundary="a "', b"; boundary=a b", b'; boundary="a', b'; boundary=a"b',
        b"; boundary=a; boundary=a", b'; boundary="a\\"b"', b"; boundary=\xe4", b"; boundary=a\tb",
        b'; boundary="a\r\nb"', b" boundary=a", b", boundary=a", b"; boundary=a\\b",
        b"; boundary=a" + b";" * 65, b"; boundary=a" + b" " * 9000, b"; boundary=a\x7f",
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
