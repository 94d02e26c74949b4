"""Invariant 8: what passes is one plain path below the root, as it was sent."""

from __future__ import annotations

import os
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from forebay.errors import InvalidName
from forebay.protocol.names import (
    from_client_name,
    numbered,
    quote_path,
    split_path,
    validate_name,
    validate_path,
)

NASTY = st.text(
    alphabet=st.one_of(
        st.sampled_from(list("./\\ ~%:a\x00\n\x7f\x85\u202e\u2066\ufeff\u200c\ud800é日🎉")),
        st.characters(),
    ),
    max_size=40,
)


def is_valid(name):
    try:
        validate_path(name.split("/"))
    except InvalidName:
        return False
    return True


VALID_SEGMENT = st.text(max_size=260).filter(lambda s: "/" not in s and is_valid(s))
VALID_NAME = st.lists(VALID_SEGMENT, min_size=1, max_size=4).map("/".join)


@given(st.lists(NASTY, max_size=5))
@example(["..", "etc", "passwd"])
def test_whatever_passes_is_one_path_inside_the_root(segments):
    try:
        name = validate_path(segments)
    except InvalidName:
        return
    root = "/srv/root"
    path = os.path.normpath(os.path.join(root, name))
    assert path == root + "/" + "/".join(segments)
    assert os.path.commonpath([root, path]) == root
    assert path != root
    assert not os.path.isabs(name)
    assert name.split("/") == segments
    assert not any(part.startswith(".") for part in name.split("/"))
    assert b"\0" not in os.fsencode(name)


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "a.tar.gz",
        "trailing.",
        "a..b",
        "~",
        "-rf",
        "C:",
        "CON",
        "a b",
        "%2e%2e",
        "día",
        "di\u0301a",
        "日本語",
        "👩\u200d🚀.png",
        "\ufeffbom",
        "\u200eltr",
        "עברית.txt",
        "x" * 255,
        "é" * 127,
    ],
)
def test_ordinary_names_are_kept_as_they_are(name):
    assert validate_name(name) == name
    assert validate_path(["folder", name]) == f"folder/{name}"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        (".", 'called "."'),
        ("..", 'called ".."'),
        ("a/b", "slash"),
        ("a\\b", "backslash"),
        ("\x00", "NUL"),
        ("a\x00.txt", "NUL"),
        ("a\nb", "control"),
        ("a\x1bb", "control"),
        ("a\x7f", "control"),
        ("a\x85b", "control"),
        ("a\x9b31m", "control"),
        (".hidden", "dot"),
        (".forebay", "dot"),
        ("...", "dot"),
        ("\u200c.forebay", "dot"),
        ("\ufeff\u200d..", "dot"),
        (" a", "space"),
        ("a ", "space"),
        ("a\u00a0", "space"),
        ("\u3000a", "space"),
        ("a\u2028", "space"),
        ("\ud800", "surrogate"),
        ("a\udc80", "surrogate"),
        ("x" * 256, "255 bytes"),
        ("é" * 128, "255 bytes"),
        ("evil\u202egpj.exe", "direction"),
        ("evil\u2067gpj.exe", "direction"),
    ],
)
def test_a_name_is_refused_with_its_reason(name, reason):
    with pytest.raises(InvalidName, match=reason):
        validate_name(name)
    with pytest.raises(InvalidName, match=reason):
        validate_path(["a", name, "b"])


def test_paths_have_bounds_too():
    assert validate_path(["a"] * 64)
    for segments, reason in (
        ([], "empty"),
        (["a"] * 65, "deeper"),
        (["x" * 255] * 17, "4096 bytes"),
    ):
        with pytest.raises(InvalidName, match=reason):
            validate_path(segments)


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("a.txt", "a.txt"),
        ("C:\\dir\\file.txt", "file.txt"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("dir\\..\\a/b\\c", "c"),
        ("folder/sub/photo.jpg", "photo.jpg"),
    ],
)
def test_of_a_client_s_path_only_the_last_component_counts(sent, name):
    assert from_client_name(sent) == name


@pytest.mark.parametrize("sent", ["", "dir/", "dir\\", "..", "a/..", "a\\.ssh", "a\x00.txt"])
def test_a_client_s_name_is_judged_too(sent):
    with pytest.raises(InvalidName):
        from_client_name(sent)


@pytest.mark.parametrize(
    ("raw", "segments"),
    [
        (b"", []),
        (b"/", []),
        (b"a", ["a"]),
        (b"/a/b", ["a", "b"]),
        (b"a/", ["a"]),
        (b"a%20b/c%C3%A9", ["a b", "cé"]),
        ("é".encode(), ["é"]),
        (b"a+b", ["a+b"]),
        (b"%252e%252e", ["%2e%2e"]),  # unescaped once, RFC 3986, section 2.4
        (b"%2e%2e/x", ["..", "x"]),  # for validate_path to refuse
    ],
)
def test_a_raw_path_is_split_and_then_unescaped_once(raw, segments):
    assert split_path(raw) == segments


@pytest.mark.parametrize(
    "raw",
    [
        b"a//b",
        b"//a",
        b"a//",
        b"//",
        b"a%2Fb",
        b"a%2fb",
        b"..%2f..%2fetc",
        b"a%00b",
        b"a\x00b",
        b"%",
        b"a%2",
        b"a%zz",
        b"a% 41",
        b"%u0041",
        b"%ff",
        b"\xff",
        b"%C0%AE%C0%AE",  # over-long dots
        b"%ED%A0%80",  # a surrogate
    ],
)
def test_a_raw_path_that_could_be_read_in_two_ways_is_refused(raw):
    with pytest.raises(InvalidName):
        split_path(raw)


@given(st.binary(max_size=60))
def test_no_raw_path_can_do_other_than_split_or_be_refused(raw):
    try:
        segments = split_path(raw)
    except InvalidName:
        return
    assert all(segment and "/" not in segment and "\x00" not in segment for segment in segments)


@given(VALID_NAME)
def test_a_quoted_path_splits_into_what_it_was(name):
    quoted = quote_path(name)
    assert quoted.isascii()
    assert not set(quoted) & set(" \"<>\\^`{}|?#'")
    assert "/".join(split_path(quoted.encode())) == name
    assert split_path(quote(name).encode()) == name.split("/")


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        ("a.txt", 1, "a (1).txt"),
        ("a", 2, "a (2)"),
        ("dir.d/a.tar.gz", 3, "dir.d/a (3).tar.gz"),
        ("A.TAR.XZ", 1, "A (1).TAR.XZ"),
        ("tar.gz", 1, "tar (1).gz"),
        ("x.tar", 1, "x (1).tar"),
        ("v1.2 final", 1, "v1.2 final (1)"),
        ("Dr. Smith", 1, "Dr. Smith (1)"),
        ("a.", 1, "a (1)."),
        ("a.b.c", 1, "a.b (1).c"),
        ("a (1).txt", 1, "a (1) (1).txt"),
        ("é" * 125 + ".txt", 10, "é" * 123 + " (10).txt"),
        ("x" * 255, 1, "x" * 251 + " (1)"),
    ],
)
def test_a_number_goes_before_the_extension(name, number, expected):
    assert numbered(name, number) == expected


@given(VALID_NAME, st.integers(min_value=1, max_value=10**9))
@example("🎉" * 63 + ".tar." + "日" * 5, 7)
@example("\u200ca", 1)
def test_a_numbered_name_is_always_valid_and_another_one(name, number):
    assume(is_valid(name))
    result = numbered(name, number)
    assert is_valid(result)
    assert result != name
    assert result.rpartition("/")[0] == name.rpartition("/")[0]
    assert result != numbered(name, number + 1)


def test_a_name_whose_folders_leave_no_room_cannot_be_numbered():
    folders = "/".join(["x" * 255] * 15 + ["y" * 254])
    assert is_valid(folders + "/a")
    with pytest.raises(InvalidName):
        numbered(folders + "/a", 1)
