"""The IETF's resumable uploads on the wire: what is read, what is ignored, what is written."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.conditions import Preconditions
from forebay.errors import InvalidField, UnsupportedMediaType
from forebay.model import Conflict, Digest, Receive
from forebay.protocol import ietf, structured_fields
from forebay.protocol.ietf import LARGEST, NEWEST, VERSIONS, Limits

Head = list[tuple[bytes, bytes]]
COMPLETE = (b"upload-complete", b"?1")
OFFSET = (b"upload-offset", b"5")
PARTIAL = (b"content-type", b"application/partial-upload")


def number(value: object) -> tuple[bytes, bytes]:
    return b"upload-draft-interop-version", str(value).encode()


# --- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"?1", True),
        (b"?0", False),
        (b" ?1 ", True),
        (b"?1;q=1", True),
        (b"1", None),
        (b"true", None),
        (b"?1, ?1", None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_completeness_is_a_boolean_or_nothing(value: bytes, found: bool | None) -> None:
    """Items 6 and 10."""
    assert ietf.read([(b"upload-complete", value)]).complete is found


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"0", 0),
        (b"999999999999999", LARGEST),
        (b"7;a;b=2", 7),
        (b"1000000000000000", None),
        (b"-1", None),
        (b"1.0", None),
        (b"?1", None),
        (b'"1"', None),
        (b"1 2", None),
        (b"", None),
    ],
)
def test_offset_and_length_are_integers_or_nothing(value: bytes, found: int | None) -> None:
    """Items 5, 7, 9 and 10."""
    asked = ietf.read([(b"upload-offset", value), (b"upload-length", value)])
    assert (asked.offset, asked.length) == (found, found)


def test_a_field_of_two_lines_is_no_item() -> None:
    """Items 5 to 7."""
    asked = ietf.read([OFFSET, OFFSET, COMPLETE, COMPLETE])
    assert (asked.offset, asked.complete) == (None, None)


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_no_value_breaks_the_reading(first: bytes, second: bytes) -> None:
    names = (
        b"upload-offset",
        b"upload-length",
        b"upload-complete",
        b"upload-draft-interop-version",
    )
    asked = ietf.read([(name, value) for name in names for value in (first, second)])
    assert asked.offset is None or 0 <= asked.offset <= LARGEST


# --- versions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_spoken_version_may_get_a_104(version: int) -> None:
    """Items 1 and 2."""
    found = ietf.read([number(version)]).version
    assert found.interim
    assert ietf.version_fields(found) == [number(version)]


@pytest.mark.parametrize("value", ["2", "10", "0", "six", "?1", "6.0", "-6", "6, 6", ""])
@pytest.mark.parametrize("switch", [True, False])
def test_another_version_gets_none_and_the_newest_rules(value: str, switch: bool) -> None:
    """Item 1. What is no number is as if absent (items 5 to 7)."""
    found = ietf.read([number(value)], without_version=switch).version
    assert found.interim is (switch and value not in ("2", "10", "0"))
    assert dataclasses.replace(found, number=9, interim=True) == NEWEST
    assert ietf.version_fields(found) == []


def test_a_switch_stands_for_the_rfc() -> None:
    """Item 4."""
    assert not ietf.read([]).version.interim
    assert ietf.read([], without_version=True).version.interim


def test_the_table_of_differences() -> None:
    """Item 3."""
    told = {
        n: (v.incomplete, v.media_type, v.lax, v.length, v.limits, v.age)
        for n, v in VERSIONS.items()
    }
    assert told == {
        3: (True, False, True, False, False, b"max-age"),
        4: (False, False, True, False, False, b"max-age"),
        5: (False, False, True, False, False, b"max-age"),
        6: (False, True, False, True, True, b"expires"),
        7: (False, True, False, True, True, b"max-age"),
        8: (False, True, False, True, True, b"max-age"),
        9: (False, True, False, True, True, b"max-age"),
    }
    assert VERSIONS[9] == NEWEST


def test_version_3_says_the_opposite() -> None:
    """Item 3."""
    head = [number(3), (b"upload-incomplete", b"?0"), (b"upload-complete", b"?0")]
    asked = ietf.read(head)
    assert asked.complete is True
    assert ietf.completeness_field(asked.version, True) == (b"upload-incomplete", b"?0")
    assert ietf.completeness_field(asked.version, False) == (b"upload-incomplete", b"?1")
    assert ietf.read([number(9), (b"upload-incomplete", b"?0")]).complete is None


@pytest.mark.parametrize(
    ("method", "head", "spoken"),
    [
        ("POST", [COMPLETE], True),
        ("POST", [(b"upload-complete", b"yes")], False),
        ("POST", [], False),
        ("PATCH", [], True),
        ("HEAD", [], False),
        ("HEAD", [number(8)], True),
        ("DELETE", [number("x")], True),
        ("GET", [], False),
        ("GET", [number(8)], True),
        ("OPTIONS", [number(8)], False),
    ],
)
def test_which_requests_are_in_this_dialect(method: str, head: Head, spoken: bool) -> None:
    assert ietf.speaks(method, head) is spoken


# --- commands ----------------------------------------------------------------------------------

TARGET = Receive(
    "f.bin",
    Conflict.REFUSE,
    Preconditions(if_none_match=()),
    "text/x",
    expected=(Digest("sha-256", b"c" * 32), Digest("sha-256", b"r" * 32)),
    wanted=("sha-512",),
)
WHOLE = b"sha-256=:" + b"cnJy" * 10 + b"cnI=:"


def test_a_creation_stores_what_its_target_would() -> None:
    """Items 31, 41, 75, 76: only Repr-Digest is about the whole."""
    head = [(b"repr-digest", WHOLE), (b"content-digest", b"sha-256=:" + b"A" * 43 + b"=:")]
    command = ietf.create(TARGET, 10, head)
    assert (command.dialect, command.name, command.length, command.media_type) == (
        "ietf",
        "f.bin",
        10,
        "text/x",
    )
    assert command.conflict is Conflict.REFUSE
    assert command.preconditions == TARGET.preconditions
    assert command.expected == (Digest("sha-256", b"r" * 32),)
    assert command.wanted == ("sha-512",)


def test_no_upload_is_larger_than_a_field_can_say() -> None:
    """Item 9."""
    assert ietf.create(TARGET, None, []).max_size == LARGEST
    assert ietf.create(dataclasses.replace(TARGET, max_size=7), None, []).max_size == 7


def test_an_append_says_where_and_whether_it_is_the_last() -> None:
    """Items 52 and 53."""
    head = [OFFSET, COMPLETE, PARTIAL, (b"upload-length", b"9")]
    command = ietf.append(ietf.read(head), "id", head)
    assert (command.upload_id, command.dialect, command.offset) == ("id", "ietf", 5)
    assert (command.length, command.completes) == (9, True)
    for missing, error in (
        (OFFSET, InvalidField),
        (COMPLETE, InvalidField),
        (PARTIAL, UnsupportedMediaType),
    ):
        rest = [field for field in head if field != missing]
        with pytest.raises(error):
            ietf.append(ietf.read(rest), "id", rest)


@pytest.mark.parametrize(
    ("value", "right"),
    [
        (b"application/partial-upload", True),
        (b"Application/Partial-Upload; x=1", True),
        (b"application/partial-uploads", False),
        (b"text/plain", False),
        (b"", False),
    ],
)
def test_the_media_type_of_an_append(value: bytes, right: bool) -> None:
    """Items 51 and 62; before 6 there was none."""
    head = [OFFSET, COMPLETE, (b"content-type", value)]
    if right:
        ietf.append(ietf.read(head), "id", head)
    else:
        with pytest.raises(UnsupportedMediaType):
            ietf.append(ietf.read(head), "id", head)
    old = [number(5), *head]
    ietf.append(ietf.read(old), "id", old)


# --- writing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "version", "value"),
    [
        (Limits(), 9, b"min-size=0"),
        (Limits(LARGEST), 9, b"min-size=0"),
        (Limits(LARGEST + 1), 9, b"min-size=0"),
        (Limits(LARGEST - 1), 9, b"max-size=999999999999998"),
        (Limits(5, 60), 9, b"max-size=5, max-age=60"),
        (Limits(5, 60), 6, b"max-size=5, expires=60"),
        (Limits(None, -3), 8, b"max-age=0"),
        (Limits(None, 10**17), 8, b"max-age=999999999999999"),
    ],
)
def test_limits_are_a_dictionary_of_integers(limits: Limits, version: int, value: bytes) -> None:
    """Items 8, 9 and 22."""
    name, found = limits.field(VERSIONS[version])
    assert (name, found) == (b"upload-limit", value)
    members = structured_fields.structured_dictionary([found])
    assert members is not None
    assert all(type(member) is int for member, _ in members.values())


def test_an_announcement_names_the_upload_and_its_limits() -> None:
    """Items 2, 25 and 33."""
    found = ietf.announcement_fields(VERSIONS[8], b"/uploads/x", Limits(7, None))
    assert found == [(b"location", b"/uploads/x"), (b"upload-limit", b"max-size=7"), number(8)]
    old = ietf.announcement_fields(VERSIONS[5], b"/uploads/x", Limits(7, None))
    assert old == [(b"location", b"/uploads/x"), number(5)]


def test_progress_names_the_offset_and_never_the_upload() -> None:
    """Items 35 and 60."""
    assert ietf.progress_fields(VERSIONS[8], 7) == [(b"upload-offset", b"7"), number(8)]


@pytest.mark.parametrize("version", [None, *VERSIONS])
def test_where_an_upload_stands(version: int | None) -> None:
    """Items 3 and 44."""
    head = [] if version is None else [number(version)]
    asked = ietf.read(head).version
    told = dict(ietf.state_fields(asked, complete=False, at=5, length=9, limits=Limits(10)))
    flag = (b"upload-incomplete", b"?1") if version == 3 else (b"upload-complete", b"?0")
    expected = {flag[0]: flag[1], b"upload-offset": b"5"}
    if version is None or version >= 6:
        expected |= {b"upload-length": b"9", b"upload-limit": b"max-size=10"}
    assert told == expected | dict(head)
    unknown = dict(ietf.state_fields(asked, complete=True, at=5, length=None, limits=None))
    assert b"upload-length" not in unknown


def test_the_problems_of_the_draft() -> None:
    """Items 73 and 74."""
    base = "https://iana.org/assignments/http-problem-types#"
    assert ietf.offset_problem(expected=1, provided=2, other=3) == {
        "type": base + "mismatching-upload-offset",
        "expected-offset": 1,
        "provided-offset": 2,
    }
    assert ietf.length_problem() == {"type": base + "inconsistent-upload-length"}
