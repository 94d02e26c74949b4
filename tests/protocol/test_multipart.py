"""Forms against the parts that went in, in every split of the wire."""

from __future__ import annotations

import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import IncompleteBody, InvalidField, MalformedBody, TooLarge, UploadError
from forebay.protocol.multipart import MultipartParser
from forebay.protocol.multipart_delimiter import DelimiterFinder
from form_limits import form_limits

B = b"frontier"


class Recorder:
    """Checks the order of calls and joins what belongs together."""

    def __init__(self):
        self.parts = []
        self.open = False

    def begin_part(self, head):
        assert not self.open
        self.open = True
        self.parts.append((head, bytearray()))

    def part_data(self, data):
        assert self.open
        assert len(data)
        self.parts[-1][1].extend(data)

    def end_part(self):
        assert self.open
        self.open = False

    @property
    def contents(self):
        return [bytes(content) for _, content in self.parts]


def as_bytes(parser, piece):
    parser.decode(piece)


def as_worker_buffer(parser, piece):
    buffer = bytearray(b"\r\n--" + B + piece + b"\r\n--" + B + b"--")
    parser.decode(buffer, 4 + len(B), 4 + len(B) + len(piece))
    buffer[:] = bytes(len(buffer))  # is filled again at once


def as_whole_view(parser, piece):
    parser.decode(memoryview(bytearray(piece)))


def as_slice_of_view(parser, piece):
    view = memoryview(b"\r\n-" + piece + b"--\r\n")[1:-2]
    parser.decode(view, 2, 2 + len(piece))


FEEDS = (as_bytes, as_worker_buffer, as_whole_view, as_slice_of_view)


def parse(pieces, boundary=B, limits=None, feed=as_bytes):
    recorder = Recorder()
    parser = MultipartParser(boundary, limits or form_limits(), recorder)
    for piece in pieces:
        feed(parser, piece)
    return parser, recorder


def whole(wire):
    return [wire]


def byte_by_byte(wire):
    return [wire[i : i + 1] for i in range(len(wire))]


SPLITS = pytest.mark.parametrize("split", [whole, byte_by_byte])


def cut(wire, cuts):
    bounds = [0, *sorted(c % (len(wire) + 1) for c in cuts), len(wire)]
    return [wire[a:b] for a, b in itertools.pairwise(bounds)]


HEAD = b'Content-Disposition: form-data; name="a"; filename="f"\r\n\r\n'


def form(*contents, boundary=B, head=HEAD, end=b"\r\n"):
    parts = b"".join(b"--" + boundary + b"\r\n" + head + c + b"\r\n" for c in contents)
    return parts + b"--" + boundary + b"--" + end


# --- any form, any split -------------------------------------------------------------------

BCHARS = b"0123456789ABCXYZabcxyz'()+_,./:=?-"


@st.composite
def forms(draw):
    """Boundary, contents and wire; the contents are made of what delimiters are made of."""
    boundary = bytes(draw(st.lists(st.sampled_from(BCHARS), min_size=1, max_size=70)))
    delimiter = b"\r\n--" + boundary
    bit = st.one_of(
        st.binary(max_size=30),
        st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"\r\n--", boundary, delimiter[:-1]]),
        st.integers(0, len(delimiter)).map(lambda n: delimiter[:n]),
        st.sampled_from([b"!", b"\rx", b"-!"]).map(lambda after: delimiter + after),
    )
    contents = []
    for bits in draw(st.lists(st.lists(bit, max_size=8), max_size=5)):
        content = b"".join(bits)
        # RFC 2046, section 5.1.1: what is a delimiter cannot be content
        if not any(
            delimiter + after in b"\r\n" + content + b"\r\n--"
            for after in (b"\r\n", b"\n", b" ", b"\t", b"--")
        ):
            contents.append(content)
    padding = st.sampled_from([b"", b" ", b" \t "])
    wire = draw(st.sampled_from([b"", b"\r\n", b"preamble\r\n", b"--\r\n\r\n"]))
    for content in contents:
        wire += b"--" + boundary + draw(padding) + b"\r\n" + HEAD + content + b"\r\n"
    wire += b"--" + boundary + b"--"
    wire += draw(st.sampled_from([b"", b"\r\n", b" ", b"\r\nepilogue" + delimiter + b"\r\n"]))
    return boundary, contents, wire


@given(forms(), st.lists(st.integers(min_value=0), max_size=20), st.sampled_from([0, 1, 2]))
def test_any_form_comes_out_as_it_went_in_for_any_split(case, cuts, shift):
    boundary, contents, wire = case
    for number, pieces in enumerate((whole(wire), byte_by_byte(wire), cut(wire, cuts))):
        parser, recorder = parse(pieces, boundary, feed=FEEDS[(number + shift) % 4])
        assert recorder.contents == contents
        assert parser.done
        assert not recorder.open
        parser.finish()


@given(forms(), st.integers(min_value=0))
def test_a_form_that_is_cut_short_is_never_done(case, end):
    boundary, contents, wire = case
    closing = wire.index(b"--" + boundary + b"--") + len(boundary) + 4
    parser, recorder = parse([wire[: end % closing]], boundary)
    assert not parser.done
    for got, sent in zip(recorder.contents, contents, strict=False):
        assert sent.startswith(got)
    with pytest.raises(IncompleteBody):
        parser.finish()


@given(
    st.lists(st.sampled_from([b"\r\n", b"--", b"x", b"\r", b"\n", b" ", HEAD, HEAD[:-2], b":"])),
    st.lists(st.integers(min_value=0), max_size=6),
)
def test_noise_is_refused_in_every_split_or_in_none(noise, cuts):
    wire = b"--x\r\n" + b"".join(noise)

    def outcome(pieces):
        try:
            parser, recorder = parse(pieces, b"x")
        except UploadError as error:
            return error.code, error.message
        return parser.done, recorder.parts, recorder.open

    # what may yet become a delimiter is not told, and that is the same in every split too
    assert outcome(whole(wire)) == outcome(byte_by_byte(wire)) == outcome(cut(wire, cuts))


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("size", [1000, 65_536, 200_000, 1 << 20])
@pytest.mark.parametrize("filler", [b"x", b"\r", b"\r\n--frontie", b"e\r", b"r" * 300 + b"\r\n"])
def test_delimiters_are_found_wherever_they_are_in_a_large_buffer(feed, size, filler):
    content = (b"=" + filler * size)[:size]
    lookalike = b"\r\n--" + B + b"s"
    contents = [content, lookalike + content, b"", content + lookalike, b"short", content]
    wire = form(*contents)
    step = len(wire) // 3 + 1
    parser, recorder = parse([wire[i : i + step] for i in range(0, len(wire), step)], feed=feed)
    assert recorder.contents == contents
    assert parser.done


@pytest.mark.parametrize("end", [b"", b"!x", b"\r!", b"-!"])
def test_a_delimiter_is_found_in_every_split_into_three(end):
    content = b"x" * 9 + (b"\r\n--frontier" + end if end else b"") + b"y"
    wire = form(content)
    for first in range(len(wire)):
        for last in range(first, min(first + 20, len(wire))):
            parser, recorder = parse([wire[:first], wire[first:last], wire[last:]])
            assert (recorder.contents, parser.done) == ([content], True)


@pytest.mark.parametrize("filler", [b"x", b"er\r", b"e"])
def test_the_search_finds_the_first_delimiter_at_every_edge_of_its_windows(filler):
    delimiter = b"\r\n--" + B
    finder = DelimiterFinder(delimiter)
    plain = b"\r" + (filler * 100_000)[:100_000]
    for place in range(64 * 1024 - 20, 64 * 1024 + 20):
        data = plain[:place] + delimiter + b"=" * 100 + delimiter + plain
        for position in (0, place - 40_000, place - 20, place):
            for end in (place + len(delimiter), len(data)):
                assert finder.find(data, position, end) == place
            assert finder.find(data, position, place + len(delimiter) - 1) == -1


# --- table: forms that are taken -----------------------------------------------------------

TAKEN = {
    "no part": (b"--frontier--\r\n", []),
    "no final CRLF": (form(b"x", end=b""), [b"x"]),
    "no content": (form(b""), [b""]),
    "no content, and one CRLF for two": (b"--frontier\r\n" + HEAD + b"--frontier--", [b""]),
    "preamble": (b"This is a MIME message.\r\n" + form(b"x"), [b"x"]),
    "preamble with lookalikes": (b"--frontiers\r\n\r\n--front\r\n" + form(b"x"), [b"x"]),
    "preamble is one CRLF": (b"\r\n" + form(b"x"), [b"x"]),
    "epilogue": (form(b"x") + b"more\r\n" + form(b"y"), [b"x"]),
    "blanks after the end": (form(b"x", end=b" \t"), [b"x"]),
    "blanks after a delimiter": (form(b"x").replace(B, B + b" \t ", 1), [b"x"]),
    "256 blanks": (form(b"x").replace(B, B + b" " * 256, 1), [b"x"]),
    "boundary begins the content's line": (form(b"x\r\n--frontiers"), [b"x\r\n--frontiers"]),
    "boundary in the line": (form(b"x--frontier\r\n"), [b"x--frontier\r\n"]),
    "boundary after LF": (form(b"x\n--frontier\r\n"), [b"x\n--frontier\r\n"]),
    "boundary after CR": (form(b"x\r--frontier--"), [b"x\r--frontier--"]),
    "boundary and CR": (form(b"x\r\n--frontier\rx"), [b"x\r\n--frontier\rx"]),
    "boundary and a hyphen": (form(b"x\r\n--frontier-x"), [b"x\r\n--frontier-x"]),
    "lookalike, then the end": (form(b"x\r\n--frontier\r"), [b"x\r\n--frontier\r"]),
    "content ends with CR": (form(b"\r"), [b"\r"]),
    "content ends with CRLF": (form(b"\r\n"), [b"\r\n"]),
    "content is CRLF--": (form(b"\r\n--"), [b"\r\n--"]),
    "binary": (form(bytes(range(256))), [bytes(range(256))]),
}


@SPLITS
@pytest.mark.parametrize(("wire", "contents"), TAKEN.values(), ids=TAKEN.keys())
def test_form_is_taken(wire, contents, split):
    parser, recorder = parse(split(wire))
    assert recorder.contents == contents
    parser.finish()


# --- table: forms that are refused ---------------------------------------------------------

MALFORMED = {
    "LF only": (form(b"x").replace(b"\r\n", b"\n"), "CRLF"),
    "LF after a delimiter": (form(b"x").replace(B + b"\r\n", B + b"\n"), "CRLF"),
    "LF after blanks": (form(b"x").replace(B + b"\r\n", B + b" \n"), "CRLF"),
    "LF in a header": (form(b"x", head=b"a: b\nc: d\r\n\r\n"), "CRLF"),
    "LF ends the header": (form(b"x", head=b"a: b\n\n" + b"x" * 20_000), "CRLF"),
    "junk after blanks": (form(b"x").replace(B, B + b" x"), "end of its line"),
    "CR after blanks": (form(b"x").replace(B, B + b" \rx"), "end of its line"),
    "too many blanks": (form(b"x").replace(B, B + b" " * 257), "256 blanks"),
    "junk after the end": (form(b"x", end=b"x"), "closing delimiter"),
    "no header": (form(b"x", head=b"\r\n"), "Content-Disposition"),
    "a blank before all": (form(b"x", head=b" a: b\r\n\r\n"), "malformed"),
    "folded before the colon": (form(b"x", head=b"a\r\n : b\r\n\r\n"), "malformed"),
    "no colon": (form(b"x", head=b"abc\r\n\r\n"), "malformed"),
    "space in a header's name": (form(b"x", head=b"a b: c\r\n\r\n"), "malformed"),
    "space before the colon": (form(b"x", head=b"a : c\r\n\r\n"), "malformed"),
    "no header name": (form(b"x", head=b": c\r\n\r\n"), "malformed"),
    "NUL in a header": (form(b"x", head=b"a: \0\r\n\r\n"), "malformed"),
    "CR in a header": (form(b"x", head=b"a: b\rc: d\r\n\r\n"), "malformed"),
    "delimiter in the header": (b"--frontier\r\n--frontier\r\n\r\n", "malformed"),
    "too many lookalikes": (form(b"x" + b"\r\n--frontier!" * 1001), "longer"),
}


@SPLITS
@pytest.mark.parametrize(("wire", "says"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_form_is_refused_and_stays_refused(wire, says, split):
    recorder = Recorder()
    parser = MultipartParser(B, form_limits(), recorder)
    with pytest.raises(MalformedBody, match=says):
        for piece in split(wire):
            parser.decode(piece)
    assert not parser.done
    with pytest.raises(MalformedBody):
        parser.decode(form(b"x"))
    with pytest.raises(IncompleteBody):
        parser.finish()


@pytest.mark.parametrize("wire", [b"", b"nothing\r\n", b"\n--frontier\n"])
def test_a_body_without_any_delimiter_is_told_as_that(wire):
    parser, _ = parse([wire])
    with pytest.raises(IncompleteBody, match="boundary"):
        parser.finish()


@pytest.mark.parametrize("boundary", [b"", b"x" * 71, b"a\r\nb"])
def test_a_boundary_that_cannot_be_is_refused(boundary):
    with pytest.raises(InvalidField):
        MultipartParser(boundary, form_limits(), Recorder())


def test_after_an_error_of_the_handler_nothing_more_is_taken():
    class Full(Recorder):
        def part_data(self, data):
            raise OSError

    parser = MultipartParser(B, form_limits(), Full())
    with pytest.raises(OSError):
        parser.decode(form(b"x"))
    with pytest.raises(MalformedBody):
        parser.decode(b"x")


# --- limits --------------------------------------------------------------------------------

FIELD = b'Content-Disposition: form-data; name="a"\r\n\r\n'

LIMITS = {
    "max_parts": (2, form(b"", b""), form(b"", b"", b"")),
    "max_files": (2, form(b"", b""), form(b"", b"", b"")),
    "max_fields": (2, form(b"", b"", head=FIELD), form(b"", b"", b"", head=FIELD)),
    "max_file_size": (9, form(b"x" * 9, b"y" * 9), form(b"x" * 9, b"x" * 10)),
    "max_field_size": (9, form(b"x" * 9, b"y" * 9, head=FIELD), form(b"x" * 10, head=FIELD)),
    "max_fields_size": (9, form(b"x" * 5, b"y" * 4, head=FIELD), form(*[b"x" * 5] * 2, head=FIELD)),
    "max_total": (len(form(b"x")), form(b"x"), form(b"xy")),
    "max_headers": (2, form(b"x", head=b"a:b\r\n" + HEAD), form(b"x", head=b"a:b\r\n" * 2 + HEAD)),
    "max_header_size": (len(HEAD) - 2, form(b"x"), form(b"x", head=b"a:\r\n" + HEAD)),
}


@SPLITS
@pytest.mark.parametrize(("name", "case"), LIMITS.items(), ids=LIMITS.keys())
def test_what_reaches_a_limit_is_taken_and_what_passes_it_refused(name, case, split):
    limit, fits, passes = case
    limits = form_limits(**{name: limit})
    parse(split(fits), limits=limits)[0].finish()
    with pytest.raises(TooLarge, match=name) as refused:
        parse(split(passes), limits=limits)
    assert refused.value.detail["limit"] == limit
    assert str(limit) in refused.value.message


def test_a_header_without_end_is_refused_at_its_limit():
    parser, _ = parse([b"--frontier\r\na:"])
    with pytest.raises(TooLarge, match="max_header_size"):
        for _ in range(20):
            parser.decode(b"x" * 1000)


def test_an_epilogue_has_the_limit_of_the_whole_alone():
    limits = form_limits(max_total=1000, max_file_size=1)
    parser, _ = parse([form(b"x"), b"y" * (1000 - len(form(b"x")))], limits=limits)
    with pytest.raises(TooLarge, match="max_total"):
        parser.decode(b"y")


# --- memory --------------------------------------------------------------------------------


def test_content_is_handed_on_without_a_copy():
    buffer = bytearray(form(b"x" * 100_000, b"y" * 100_000))
    slices = []

    class Handler(Recorder):
        def part_data(self, data):
            slices.append(data)

    MultipartParser(B, form_limits(), Handler()).decode(buffer, 0, len(buffer))
    assert [len(s) for s in slices] == [100_000, 100_000]
    assert all(s.obj is buffer for s in slices)


@given(forms(), st.lists(st.integers(min_value=0), max_size=20))
def test_of_content_no_more_is_held_than_may_begin_a_delimiter(case, cuts):
    boundary, _, wire = case
    recorder = Recorder()
    parser = MultipartParser(boundary, form_limits(), recorder)
    for piece in cut(wire, cuts):
        parser.decode(piece)
        assert len(parser._held) <= len(boundary) + 5
        assert len(parser._head) <= len(HEAD) + 2


@pytest.mark.parametrize("unit", [b"x", b"\r", b"\r\n", b"\r\n--", b"\r\n--frontie", b"frontier"])
def test_what_is_held_does_not_grow_with_the_body(unit):
    parser, _ = parse([b"--frontier\r\n" + HEAD + b"="])
    for _ in range(50):
        parser.decode(unit * 1000)
        state = (parser._held, parser._head, parser._padding)
        assert sum(map(sys.getsizeof, state)) < 400
