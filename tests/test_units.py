"""Sizes, durations and rates: what is written is what is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay import units
from forebay.model import MAX_OFFSET

SIZES = st.integers(0, MAX_OFFSET)
SECONDS = st.floats(0, 1e9)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1048576),
        ("1B", 1),
        ("10GB", 10 * 10**9),
        ("64MiB", 64 * 2**20),
        ("64 MiB", 64 * 2**20),
        (" 64mib ", 64 * 2**20),
        ("1.5GiB", 3 * 2**29),
        ("0.5KB", 500),
        ("2TB", 2 * 10**12),
        ("1TiB", 2**40),
        ("1.10KB", 1100),
        (str(MAX_OFFSET), MAX_OFFSET),
    ],
)
def test_a_size_is_read_exactly(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("-1", "negative"),
        ("10XB", "XB is not a unit"),
        ("10G", "ambiguous: GB counts in 1000s, GiB in 1024s"),
        ("10k", "ambiguous: KB"),
        ("GB", "not a number"),
        ("1,5GB", "not a number"),
        ("1e9", "e"),
        ("+1", "not a number"),
        ("1.", "not a number"),
        (".5KB", "not a number"),
        ("0.3B", "whole"),
        ("1.0001KB", "whole"),
        ("٣KB", "not a number"),
        ("9223372036854775808", "more than a file can hold"),
        ("9" * 30, "not a number"),
        ("8388608TiB", "more than a file can hold"),
        ("nan", "not a number"),
        ("1GB\x00", "not a number"),
    ],
)
def test_a_wrong_size_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0"),
        (1, "1B"),
        (1000, "1KB"),
        (1023, "1023B"),
        (1024, "1KiB"),
        (1500, "1500B"),
        (1_500_000, "1500KB"),
        (2**21, "2MiB"),
        (10**10, "10GB"),
    ],
)
def test_a_size_is_written_in_the_largest_unit_that_divides_it(size: int, text: str) -> None:
    assert units.format_size(size) == text


@given(SIZES)
def test_a_size_survives_writing_and_reading(size: int) -> None:
    assert units.parse_size(units.format_size(size)) == size


@given(st.integers(1, 2**20), st.sampled_from(["KB", "MB", "GB", "KiB", "MiB", "GiB"]))
def test_a_size_in_units_survives_writing_and_reading(count: int, unit: str) -> None:
    size = units.parse_size(f"{count}{unit}")
    assert units.parse_size(units.format_size(size)) == size


@given(st.text())
def test_any_text_is_a_size_or_a_value_error(text: str) -> None:
    for parse in (units.parse_size, units.parse_duration, units.parse_rate):
        try:
            assert parse(text) >= 0
        except ValueError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("30", 30.0),
        ("0.5", 0.5),
        ("500ms", 0.5),
        ("1.5ms", 0.0015),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1.5h", 5400.0),
        ("24h", 86400.0),
        ("7d", 604800.0),
        ("7 d", 604800.0),
        ("0.1", 0.1),
    ],
)
def test_a_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-5s", "5M", "5 min", "1h30m", "inf", "nan", "1e3", "s"])
def test_a_wrong_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"it is|not a unit"):
        units.parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0"),
        (0.5, "500ms"),
        (20.0, "20s"),
        (75.0, "75s"),
        (300, "5m"),
        (86400.0, "24h"),
        (604800.0, "7d"),
        (0.0001, "0.0001s"),
    ],
)
def test_a_duration_is_written_as_people_say_it(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text


@given(SECONDS | st.integers(0, 10**9).map(float))
def test_a_duration_survives_writing_and_reading(seconds: float) -> None:
    assert units.parse_duration(units.format_duration(seconds)) == seconds


@given(st.integers(0, 10**12))
def test_milliseconds_survive_writing_and_reading_exactly(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert units.parse_duration(units.format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "rate"), [("0", 0), ("1KB", 1000), ("1KB/s", 1000), (" 64KiB/s ", 65536), ("5", 5)]
)
def test_a_rate_is_read_with_or_without_its_second(text: str, rate: int) -> None:
    assert units.parse_rate(text) == rate


@given(SIZES)
def test_a_rate_survives_writing_and_reading(rate: int) -> None:
    assert units.parse_rate(units.format_rate(rate)) == rate
