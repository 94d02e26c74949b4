"""The chunked coding against the bytes that went in, in every split of the wire."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import MalformedBody
from forebay.protocol.chunked import ChunkedDecoder, allowed_trailers


def decode(pieces, decoder=None):
    """Feed `pieces`; return the decoder, the content, and what was not consumed."""
    decoder = decoder or ChunkedDecoder()
    content = bytearray()
    rest = b""
    for piece in pieces:
        consumed = decoder.decode(memoryview(piece), content.extend)
        assert decoder.done or consumed == len(piece)
        rest += piece[consumed:]
    return decoder, bytes(content), rest


def whole(wire):
    return [wire]


def byte_by_byte(wire):
    return [wire[i : i + 1] for i in range(len(wire))]


SPLITS = pytest.mark.parametrize("split", [whole, byte_by_byte])


def cut(wire, cuts):
    bounds = [0, *sorted(c % (len(wire) + 1) for c in cuts), len(wire)]
    return [wire[a:b] for a, b in itertools.pairwise(bounds)]


@st.composite
def encoded(draw):
    """A body and one way to write it: sizes, digits' case, leading zeros, extensions."""
    chunks = draw(st.lists(st.binary(min_size=1, max_size=300), max_size=12))
    wire = bytearray()
    for chunk in chunks:
        size = draw(st.sampled_from(["%x", "%X", "%04x", "%016X"])) % len(chunk)
        extension = draw(st.sampled_from(["", ";a", ";a=b", ' ; a="x;\t y"', ";\xe9"]))
        wire += size.encode() + extension.encode("latin-1") + b"\r\n" + chunk + b"\r\n"
    wire += draw(st.sampled_from([b"0\r\n", b"000\r\n", b"0;last\r\n"]))
    trailers = draw(st.lists(st.sampled_from([(b"A", b"1"), (b"digest", b"x y"), (b"e", b"")])))
    for name, value in trailers:
        wire += name + b":" + draw(st.sampled_from([b"", b" ", b"\t "])) + value + b" \r\n"
    wire += b"\r\n"
    return b"".join(chunks), bytes(wire), [(n.lower(), v) for n, v in trailers]


@given(encoded(), st.binary(max_size=40), st.lists(st.integers(min_value=0), max_size=20))
def test_any_body_comes_out_as_it_went_in_for_any_split(case, pipelined, cuts):
    body, wire, trailers = case
    for pieces in (
        whole(wire + pipelined),
        byte_by_byte(wire + pipelined),
        cut(wire + pipelined, cuts),
    ):
        decoder, content, rest = decode(pieces)
        assert (content, rest, decoder.done) == (body, pipelined, True)
        assert decoder.trailers == trailers


@given(
    st.lists(st.binary(min_size=1, max_size=20), min_size=8, max_size=60),
    st.sampled_from(["%x", "%X"]),
    st.lists(st.integers(min_value=0), max_size=8),
)
def test_a_run_of_tiny_chunks_comes_out_as_it_went_in_for_any_split(chunks, size, cuts):
    wire = b"".join(b"%b\r\n%b\r\n" % ((size % len(c)).encode(), c) for c in chunks)
    wire += b"0\r\n\r\n"
    for pieces in (whole(wire), byte_by_byte(wire), cut(wire, cuts)):
        decoder, content, _ = decode(pieces)
        assert (content, decoder.done) == (b"".join(chunks), True)


@pytest.mark.parametrize(
    "broken", [b"1\r\nab\r\n", b"1\r\na\n", b"1\na\r\n", b"g\r\na\r\n", b"1\r\na\r\r"]
)
def test_a_run_of_tiny_chunks_with_a_broken_one_is_refused(broken):
    wire = b"1\r\nx\r\n" * 20 + broken + b"1\r\nx\r\n" * 20
    for split in (whole, byte_by_byte):
        with pytest.raises(MalformedBody):
            decode(split(wire))


def test_the_work_of_a_body_is_counted_in_chunks_and_lines():
    def work(wire):
        return decode([wire])[0].work

    assert work(b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n") >= 1000
    assert work(b"14\r\n" + b"x" * 20 + b"\r\n0\r\n" + b"a: b\r\n" * 200 + b"\r\n") >= 200
    assert work(b"100000\r\n" + bytes(1 << 20) + b"\r\n0\r\n\r\n") < 20


@given(encoded(), st.integers(min_value=0))
def test_a_body_that_is_cut_short_is_never_done(case, end):
    body, wire, _ = case
    decoder, content, _ = decode([wire[: end % len(wire)]])
    assert not decoder.done
    assert body.startswith(content)


@given(st.binary(max_size=200), st.lists(st.integers(min_value=0), max_size=6))
def test_noise_is_refused_in_every_split_or_in_none(noise, cuts):
    def outcome(pieces):
        try:
            decoder, content, rest = decode(pieces)
        except MalformedBody:
            return "malformed"
        return decoder.done, content, rest, decoder.trailers

    assert outcome(whole(noise)) == outcome(byte_by_byte(noise)) == outcome(cut(noise, cuts))


def test_content_is_handed_on_without_a_copy():
    wire = memoryview(bytearray(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"))
    slices = []
    ChunkedDecoder().decode(wire, slices.append)
    assert [bytes(s) for s in slices] == [b"abc", b"de"]
    assert all(s.obj is wire.obj for s in slices)


def test_the_largest_chunk_size_is_taken_and_its_content_streams():
    decoder, content, _ = decode([b"7fffffffffffffff\r\n", b"abc", b"def"])
    assert content == b"abcdef"
    assert not decoder.done


MALFORMED = {
    # RFC 9112, section 7.1: chunk-size is 1*HEXDIG and nothing else
    "empty size": b"\r\nabc\r\n0\r\n\r\n",
    "no size before extension": b";a\r\n",
    "not hexadecimal": b"g\r\n",
    "hex prefix": b"0x3\r\nabc\r\n",
    "plus sign": b"+3\r\nabc\r\n",
    "minus sign": b"-3\r\nabc\r\n",
    "space before": b" 3\r\nabc\r\n",
    "space after": b"3 \r\nabc\r\n",
    "tab after": b"3\t\r\nabc\r\n",
    "underscore": b"1_0\r\n",
    "full-width digit": "３\r\n".encode(),
    "two sizes": b"3 3\r\nabc\r\n",
    "seventeen digits": b"00000000000000003\r\nabc\r\n",
    "beyond signed 64 bits": b"8000000000000000\r\n",
    "all ones": b"ffffffffffffffff\r\n",
    # section 2.2 and 7.1: lines end with CRLF
    "bare LF after size": b"3\nabc\r\n0\r\n\r\n",
    "bare LF after extension": b"3;a\nabc\r\n0\r\n\r\n",
    "bare CR after size": b"3\rabc\r\n0\r\n\r\n",
    "bare LF after data": b"3\r\nabc\n0\r\n\r\n",
    "CR without LF after data": b"3\r\nabc\r0\r\n\r\n",
    "no CRLF after data": b"3\r\nabcd\r\n0\r\n\r\n",
    "bare LF after last chunk": b"0\n\r\n",
    "bare LF at the end": b"0\r\n\n",
    # section 7.1.1: extensions
    "NUL in extension": b"3;a\x00\r\nabc\r\n",
    "CR in extension": b"3;a\rb\r\nabc\r\n",
    "DEL in extension": b"3;\x7f\r\nabc\r\n",
    "extension too long": b"3;" + b"a" * 4096 + b"\r\nabc\r\n",
    "endless head line": b"3" * 5000,
    "more extensions than content": (b"1;" + b"a" * 4000 + b"\r\nx\r\n") * 5,
    "an extension to each tiny chunk": b"1;\r\nx\r\n" * 400,
    # section 7.1.2 and RFC 9110, section 5.1 and 5.5: trailers
    "hundreds of trailers": b"0\r\n" + b"a:\r\n" * 300,
    "trailer without colon": b"0\r\nabc\r\n\r\n",
    "space in trailer name": b"0\r\na b: c\r\n\r\n",
    "space before colon": b"0\r\na : c\r\n\r\n",
    "empty trailer name": b"0\r\n: c\r\n\r\n",
    "folded trailer": b"0\r\na: b\r\n c\r\n\r\n",
    "NUL in trailer": b"0\r\na: \x00\r\n\r\n",
    "CR in trailer": b"0\r\na: b\rc: d\r\n\r\n",
    "bare LF in trailer": b"0\r\na: b\nc: d\r\n\r\n",
    "endless trailer line": b"0\r\na: " + b"b" * 9000,
    "endless trailers": b"0\r\n" + b"a: b\r\n" * 1400,
}


@SPLITS
@pytest.mark.parametrize("wire", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_coding_is_refused(wire, split):
    decoder = ChunkedDecoder()
    with pytest.raises(MalformedBody):
        decode(split(wire), decoder)
    assert not decoder.done
    with pytest.raises(MalformedBody):  # and stays refused, whatever comes next
        decode([b"0\r\n\r\n"], decoder)


@SPLITS
def test_lines_of_exactly_the_bounds_are_taken(split):
    head = b"3;" + b"a" * 4094 + b"\r\nabc\r\n0\r\n"
    trailers = b"a:" + b"b" * 4092 + b"\r\n" + b"c:" + b"d" * 4092 + b"\r\n\r\n"
    decoder, content, _ = decode(split(head + trailers))
    assert content == b"abc"
    assert decoder.done
    assert [name for name, _ in decoder.trailers] == [b"a", b"c"]
    with pytest.raises(MalformedBody):
        decode(split(head + trailers[:-2] + b"e:\r\n\r\n"))


def test_extensions_may_be_long_where_there_is_content_for_them():
    chunk = b"800;" + b"a" * 2000 + b"\r\n" + bytes(2048) + b"\r\n"
    assert decode([chunk * 40 + b"0\r\n\r\n"])[0].done


def test_nothing_but_a_bounded_line_is_kept():
    decoder = ChunkedDecoder(max_line=64, max_trailer=64)
    decode([b"40;" + b"x" * 60, b"\r\n", bytes(60)], decoder)
    assert len(decoder._partial) == 0
    with pytest.raises(MalformedBody):
        decode([bytes(4), b"\r\n", b"1" * 67], decoder)


def test_after_the_end_nothing_more_is_consumed():
    decoder, _, _ = decode([b"0\r\n\r\n"])
    assert decoder.decode(memoryview(b"GET / HTTP/1.1"), pytest.fail) == 0


def test_only_allow_listed_trailers_are_looked_at():
    trailers = [(b"repr-digest", b"a"), (b"content-length", b"1"), (b"repr-digest", b"b")]
    assert allowed_trailers(trailers, {b"repr-digest"}) == [trailers[0], trailers[2]]
    assert allowed_trailers(trailers, ()) == []
