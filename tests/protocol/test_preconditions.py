"""RFC 9110, section 13. The table is checked against a model written the other way round."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.conditions import EntityTag, Preconditions
from forebay.errors import InvalidField
from forebay.protocol.http_dates import http_date
from forebay.protocol.preconditions import (
    Outcome,
    evaluate,
    format_tag,
    if_range,
    parse,
    parse_tag,
)

A, B, WEAK_A = EntityTag("a"), EntityTag("b"), EntityTag("a", weak=True)


@pytest.mark.parametrize(
    ("values", "tags"),
    [
        ([], None),
        ([b"*"], ()),
        ([b" * "], ()),
        ([b'"a"'], (A,)),
        ([b'W/"a"'], (WEAK_A,)),
        ([b'"a", "b"'], (A, B)),
        ([b'"a","b"'], (A, B)),
        ([b'"a"', b'W/"a"'], (A, WEAK_A)),
        ([b', ,"a",, "b" ,'], (A, B)),  # section 5.6.1.2
        ([b'"a,b"'], (EntityTag("a,b"),)),
        ([b'"", "x\\"'], (EntityTag(""), EntityTag("x\\"))),
        ([b'"W/a*"'], (EntityTag("W/a*"),)),
        ([b'"\xe9"'], (EntityTag("é"),)),
    ],
)
def test_tag_lists_are_read(values, tags):
    for name, field in ((b"if-match", "if_match"), (b"if-none-match", "if_none_match")):
        parsed = parse([(name, value) for value in values])
        assert getattr(parsed, field) == tags
        assert bool(parsed) is (tags is not None)


@pytest.mark.parametrize(
    "values",
    [
        [b""],
        [b","],
        [b"a"],
        [b'"a'],
        [b'a"'],
        [b'"a" "b"'],
        [b'"a""b"'],
        [b'w/"a"'],
        [b'W/ "a"'],
        [b'"a b"'],
        [b'"a", *'],
        [b"*, *"],
        [b"*", b'"a"'],
        [b'"a", b'],
        [b'"a"\n'],
        [b'"\x7f"'],
    ],
)
def test_a_tag_list_that_cannot_be_read_is_refused(values):
    for name in (b"if-match", b"if-none-match"):
        with pytest.raises(InvalidField, match=name.decode()):
            parse([(name, value) for value in values])


def test_dates_are_read_and_bad_ones_ignored():
    good, bad = http_date(100), b"soon"
    for name, field in (
        (b"if-modified-since", "if_modified_since"),
        (b"if-unmodified-since", "if_unmodified_since"),
    ):
        assert getattr(parse([(name, good)]), field) == 100
        assert not parse([(name, bad)])
        assert not parse([(name, good), (name, good)])  # 13.1.3: more than one member


def model(given_, method, tag, mtime):
    """Section 13.1 condition by condition, then section 13.2.2 as one list of rules."""
    exists = tag is not None or mtime is not None

    def strong(tags):
        return exists if tags == () else any(t == tag and not t.weak for t in tags)

    def weak(tags):
        return exists if tags == () else bool(tag) and tag.opaque in [t.opaque for t in tags]

    rules = []
    if given_.if_match is not None:
        rules.append((not strong(given_.if_match), Outcome.FAILED))
    if given_.if_match is None and None not in (given_.if_unmodified_since, mtime):
        rules.append((not mtime <= given_.if_unmodified_since, Outcome.FAILED))
    refusal = Outcome.NOT_MODIFIED if method in {"GET", "HEAD"} else Outcome.FAILED
    if given_.if_none_match is not None:
        rules.append((weak(given_.if_none_match), refusal))
    elif method in {"GET", "HEAD"} and None not in (given_.if_modified_since, mtime):
        rules.append((mtime <= given_.if_modified_since, Outcome.NOT_MODIFIED))
    return next((outcome for applies, outcome in rules if applies), Outcome.PROCEED)


def test_every_combination_comes_out_as_section_13_says():
    lists = [None, (), (A,), (B,), (WEAK_A,), (B, A)]
    dates = [None, 9, 10, 11]
    representations = [(None, None), (A, 10), (WEAK_A, 10), (A, None), (None, 10)]
    seen = set()
    for match, none_match, modified, unmodified, method, (tag, mtime) in itertools.product(
        lists, lists, dates, dates, ["GET", "HEAD", "PUT", "PATCH", "DELETE"], representations
    ):
        given_ = Preconditions(match, none_match, modified, unmodified)
        outcome = evaluate(given_, method, tag=tag, mtime=mtime)
        assert outcome is model(given_, method, tag, mtime), (given_, method, tag, mtime)
        seen.add(outcome)
    assert seen == set(Outcome)


@pytest.mark.parametrize(
    ("given_", "method", "tag", "mtime", "outcome"),
    [
        # create only: If-None-Match: * (13.1.2)
        (Preconditions(if_none_match=()), "PUT", None, None, Outcome.PROCEED),
        (Preconditions(if_none_match=()), "PUT", A, 10, Outcome.FAILED),
        # replace only what was seen: If-Match (13.1.1), strong comparison
        (Preconditions(if_match=()), "PUT", None, None, Outcome.FAILED),
        (Preconditions(if_match=(A,)), "PUT", A, 10, Outcome.PROCEED),
        (Preconditions(if_match=(WEAK_A,)), "PUT", A, 10, Outcome.FAILED),
        (Preconditions(if_match=(A,)), "PUT", WEAK_A, 10, Outcome.FAILED),
        # revalidation: weak comparison, and dates only without tags
        (Preconditions(if_none_match=(WEAK_A,)), "GET", A, 10, Outcome.NOT_MODIFIED),
        (Preconditions(None, (B,), 10), "GET", A, 10, Outcome.PROCEED),
        (Preconditions(if_modified_since=10), "GET", A, 10, Outcome.NOT_MODIFIED),
        (Preconditions(if_modified_since=10), "PUT", A, 10, Outcome.PROCEED),
        (Preconditions(if_unmodified_since=9), "PUT", A, 10, Outcome.FAILED),
        (Preconditions((A,), None, None, 9), "PUT", A, 10, Outcome.PROCEED),
        (Preconditions(if_unmodified_since=9), "PUT", None, None, Outcome.PROCEED),
    ],
)
def test_the_cases_that_matter_read_as_written(given_, method, tag, mtime, outcome):
    assert evaluate(given_, method, tag=tag, mtime=mtime) is outcome


@pytest.mark.parametrize(
    ("value", "tag", "mtime", "expected"),
    [  # section 13.1.5
        (b'"a"', A, 10, True),
        (b'"b"', A, 10, False),
        (b'W/"a"', A, 10, False),
        (b'"a"', WEAK_A, 10, False),
        (b'W/"a"', WEAK_A, 10, False),
        (b'"a"', None, 10, False),
        (http_date(10), A, 10, True),
        (http_date(11), A, 10, False),
        (http_date(9), A, 10, False),
        (http_date(10), A, None, False),
        (b"junk", A, 10, False),
        (b'"a", "b"', A, 10, False),
    ],
)
def test_if_range_needs_a_strong_match(value, tag, mtime, expected):
    assert if_range(value, tag, mtime) is expected


ETAGC = [chr(c) for c in (0x21, *range(0x23, 0x7F), *range(0x80, 0x100))]
TAGS = st.builds(EntityTag, st.text(alphabet=ETAGC, max_size=20), st.booleans())


@given(st.lists(TAGS, min_size=1, max_size=5))
def test_tags_read_back_as_written(tags):
    assert parse([(b"if-match", b", ".join(map(format_tag, tags)))]).if_match == tuple(tags)
    assert [parse_tag(format_tag(tag)) for tag in tags] == tags


@given(st.binary(max_size=60))
def test_noise_is_read_or_refused(value):
    with contextlib.suppress(InvalidField):
        assert parse([(b"if-match", value)]).if_match is not None
    if_range(value, A, 10)
