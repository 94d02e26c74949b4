"""The quick search finds what `bytes.find` finds, on text of any kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.protocol import multipart_delimiter
from forebay.protocol.multipart_delimiter import DelimiterFinder, memmem

NEEDLES = (
    b"\r\n--x",
    b"\r\n--bench-boundary-5f0c7d",
    b"\r\n--" + b"-" * 70,
    b"\r\n------WebKitFormBoundary7MA4YWxkTrZu0gW1",
)


@given(st.data())
def test_memmem_is_find(data):
    quick = memmem()
    if quick is None:
        pytest.skip("no glibc here, so nothing to compare")
    needle = data.draw(st.sampled_from(NEEDLES))
    pieces = st.sampled_from([needle, needle[:-1], needle[1:], b"\0" * 9, b"\r", b"-"])
    text = b"".join(data.draw(st.lists(pieces, max_size=12)))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    for found in (text, bytearray(text)):
        assert quick(found, start, end, needle) == found.find(needle, start, end)
        with pytest.raises(IndexError):
            quick(found, start, len(text) + 1, needle)


def test_a_buffer_can_be_changed_after_a_search():
    quick = memmem()
    if quick is None:
        pytest.skip("no glibc here")
    buffer = bytearray(b"abc")
    assert quick(buffer, 0, 3, b"c") == 2
    buffer.clear()


@pytest.mark.parametrize("with_memmem", [True, False])
@pytest.mark.parametrize("needle", NEEDLES)
@pytest.mark.parametrize("place", [0, 1, 99_999, 200_000])
def test_the_first_is_found_in_text_that_looks_like_it(monkeypatch, needle, place, with_memmem):
    if not with_memmem:
        monkeypatch.setattr(multipart_delimiter, "memmem", lambda: None)
    finder = DelimiterFinder(needle)
    for filler in (b"\0", b"\r", b"-", needle[:-1], needle[1:], needle[-2:], bytes(range(256))):
        text = (filler * 300_000)[:300_000].replace(needle, b"\0" * len(needle))
        before = text[:place].rstrip(b"\r\n-")
        data = before + needle + text[:1000] + needle
        want = data.find(needle)
        assert finder.find(data, 0, len(data)) == want
        assert finder.find(bytearray(data), 0, len(data)) == want
        assert finder.find(text, 0, len(text)) == -1


@given(st.data())
def test_it_finds_what_find_finds_in_text_of_lines(data):
    """Few line feeds and many, around and inside of what is looked for."""
    needle = data.draw(st.sampled_from(NEEDLES))
    pieces = st.sampled_from(
        [needle, needle[:-1], needle[1:], b"\n" * 40, b"\r\n" * 40, b"\r", b"-" * 50, b"a" * 99]
    )
    text = b"\r" + b"".join(data.draw(st.lists(pieces, max_size=12)))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    assert DelimiterFinder(needle).find(text, start, end) == text.find(needle, start, end)
