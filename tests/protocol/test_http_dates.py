from __future__ import annotations

import datetime
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.protocol import http_dates


@pytest.mark.parametrize(
    "value",
    [
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
    ],
)
def test_the_three_forms_of_a_date_are_one_instant(value):
    assert http_dates.parse_http_date(value) == 784111777


@given(st.integers(min_value=0, max_value=253402300799))
def test_a_date_reads_back_and_others_read_it_too(seconds):
    value = http_dates.http_date(seconds)
    assert http_dates.parse_http_date(value) == seconds
    assert parsedate_to_datetime(value.decode()) == datetime.datetime.fromtimestamp(
        seconds, datetime.UTC
    )


def test_dates_out_of_range_are_clamped_and_fractions_cut():
    assert http_dates.http_date(-5) == b"Thu, 01 Jan 1970 00:00:00 GMT"
    assert http_dates.http_date(1e18) == b"Fri, 31 Dec 9999 23:59:59 GMT"
    assert http_dates.http_date(784111777.9) == b"Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("value", "year"),
    [(b"Monday, 01-Jan-70 00:00:00 GMT", 1970), (b"Monday, 01-Jan-69 00:00:00 GMT", 2069)],
)
def test_two_digit_years_have_a_fixed_pivot(value, year):
    seconds = http_dates.parse_http_date(value)
    assert datetime.datetime.fromtimestamp(seconds, datetime.UTC).year == year


def test_a_leap_second_is_the_last_second_of_its_minute():
    assert http_dates.parse_http_date(b"Sat, 31 Dec 2016 23:59:60 GMT") == 1483228799


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"0",
        b"yesterday",
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 24:00:00 GMT",
        b"Sun, 06 Nov 1994 08:60:00 GMT",
        b"Sun, 06 Nov 1994 08:49:61 GMT",
        b"Sun, 31 Feb 1994 08:49:37 GMT",
        b"Sun, 06 Nov 0000 08:49:37 GMT",
        b"sun, 06 nov 1994 08:49:37 gmt",
        b"Sun, 06 Nov 1994 08:49:37 GMT\n",
    ],
)
def test_what_is_no_date_is_none(value):
    assert http_dates.parse_http_date(value) is None
