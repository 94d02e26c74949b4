"""The same forms through the well-known parsers: where they take a form, all say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.protocol.multipart import MultipartParser
from form_limits import form_limits

WORDS = "abcXYZ019._ äé日-"
BITS = [b"\r", b"\n", b"\r\n", b"--", b"-", b"\r\n--", b"x", b"\0", b"\xff", b"boundary"]


@st.composite
def forms(draw):
    """Boundary, (name, filename, content) of every part, and the wire; all of it common."""
    boundary = draw(st.sampled_from([b"boundary", b"----WebKitFormBoundaryqT3", b"-" * 30 + b"7"]))
    content = st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(BITS)), max_size=10)
    text = st.text(WORDS, min_size=1, max_size=12).map(str.strip).filter(bool)
    parts = []
    for bits in draw(st.lists(content, max_size=5)):
        joined = b"".join(bits)
        if b"--" + boundary not in joined:
            parts.append((draw(text), draw(st.none() | text), joined))
    wire = b""
    for name, filename, joined in parts:
        head = f'Content-Disposition: form-data; name="{name}"'
        if filename is not None:
            head += f'; filename="{filename}"\r\nContent-Type: application/octet-stream'
        wire += b"--" + boundary + b"\r\n" + head.encode() + b"\r\n\r\n" + joined + b"\r\n"
    return boundary, parts, wire + b"--" + boundary + b"--\r\n"


def cut(wire, step):
    return [wire[i : i + step] for i in range(0, len(wire), step)]


def ours(boundary, pieces):
    found = []

    class Handler:
        def begin_part(self, head):
            found.append((head.name, head.filename, bytearray()))

        def part_data(self, data):
            found[-1][2].extend(data)

        def end_part(self): ...

    parser = MultipartParser(boundary, form_limits(), Handler())
    for piece in pieces:
        parser.decode(piece)
    parser.finish()
    return [(name, filename, bytes(content)) for name, filename, content in found]


@given(forms(), st.integers(1, 60))
def test_the_parts_are_those_that_python_multipart_finds(case, step):
    peer = pytest.importorskip("python_multipart.multipart")
    boundary, parts, wire = case
    contents = []
    callbacks = {
        "on_part_begin": lambda: contents.append(bytearray()),
        "on_part_data": lambda data, start, end: contents[-1].extend(data[start:end]),
    }
    parser = peer.MultipartParser(boundary, callbacks)
    for piece in cut(wire, step):
        parser.write(piece)
    parser.finalize()
    assert ours(boundary, cut(wire, step)) == parts
    assert [bytes(c) for c in contents] == [content for _, _, content in parts]


@given(forms(), st.integers(1, 60))
def test_the_parts_are_those_that_multipart_finds(case, step):
    peer = pytest.importorskip("multipart")
    if not hasattr(peer, "PushMultipartParser"):
        pytest.skip("another package of that name")
    boundary, parts, wire = case
    found = []
    with peer.PushMultipartParser(boundary) as parser:
        for piece in cut(wire, step):
            for event in parser.parse(piece):
                if isinstance(event, peer.MultipartSegment):
                    found.append((event.name, event.filename, bytearray()))
                elif event:
                    found[-1][2].extend(event)
    assert ours(boundary, cut(wire, step)) == parts
    assert [(name, filename, bytes(c)) for name, filename, c in found] == parts
