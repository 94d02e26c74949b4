"""Dates in header fields (RFC 9110, section 5.6.7)."""

from __future__ import annotations

import datetime
import functools
import re

__all__ = ["http_date", "parse_http_date"]

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EPOCH = datetime.date(1970, 1, 1).toordinal()
_LAST_SECOND = 253402300799  # of the year 9999

_TIME = r"(?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})"
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_DATES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:{'|'.join(_DAYS)}), (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
        rf"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, "
        rf"(?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",
        rf"(?:{'|'.join(_DAYS)}) {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})",
    )
)


def http_date(seconds: float) -> bytes:
    """An IMF-fixdate (RFC 9110, section 5.6.7). Times outside 1970 to 9999 are clamped."""
    return _http_date(max(0, min(int(seconds), _LAST_SECOND)))


@functools.lru_cache(maxsize=64)  # many responses have the same time
def _http_date(seconds: int) -> bytes:
    days, second = divmod(seconds, 86400)
    date = datetime.date.fromordinal(_EPOCH + days)
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return (
        f"{_DAYS[date.weekday()]}, {date.day:02} {_MONTHS[date.month - 1]} {date.year:04} "
        f"{hour:02}:{minute:02}:{second:02} GMT"
    ).encode("ascii")


def parse_http_date(value: bytes) -> int | None:
    """Seconds since the epoch of an HTTP-date, None if it is malformed (section 5.6.7).

    The obsolete forms of RFC 850 and asctime are accepted. A two-digit year from 70 to 99 is in
    the 20th century: the rule of the RFC needs a clock, which this package does not use.
    """
    text = value.decode("latin-1")
    match = next((found for form in _DATES if (found := form.fullmatch(text))), None)
    if match is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year += 1900 if year >= 70 else 2000
    hour, minute, second = map(int, match["time"].split(":"))
    if hour > 23 or minute > 59 or second > 60:
        return None
    try:
        date = datetime.date(year, _MONTHS.index(match["month"]) + 1, int(match["day"]))
    except ValueError:
        return None
    # POSIX time has no leap seconds: 60 counts as 59.
    days = date.toordinal() - _EPOCH
    return days * 86400 + hour * 3600 + minute * 60 + min(second, 59)
