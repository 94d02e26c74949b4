from __future__ import annotations

import http
import json

import pytest

from forebay import errors
from forebay.errors import UploadError
from forebay.protocol.status import STATUS, phrase, render, status_of


def tree(kind):
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == "forebay.errors":
            yield from tree(child)


EVERY = sorted(set(tree(UploadError)), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_of_its_own_and_a_message(kind):
    assert "code" in vars(kind)
    assert "default" in vars(kind)
    status = STATUS[kind]
    assert 400 <= status <= 599
    assert phrase(status)
    answer = render(kind(), None)
    assert answer.status == status


def test_codes_are_unique():
    assert len({kind.code for kind in EVERY}) == len(EVERY)
    assert set(STATUS) == set(EVERY)


def test_an_application_s_own_error_has_its_ancestor_s_status():
    class TooBoring(errors.VerificationRefused):
        code = "APP_BORING"

    assert status_of(TooBoring()) == 422


def test_phrases_are_those_of_the_registry():
    assert phrase(413) == "Content Too Large"  # RFC 9110 renamed it; so did Python 3.13
    assert phrase(799) == ""
    for status in (200, 201, 204, 206, 304, 400, 404, 405, 409, 410, 411, 412, 415, 421, 500, 507):
        assert phrase(status) == http.HTTPStatus(status).phrase


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, b"application/problem+json"),
        (b"", b"application/problem+json"),
        (b"*/*", b"application/problem+json"),  # curl
        (b"application/json", b"application/problem+json"),
        (b"application/problem+json", b"application/problem+json"),
        (b"application/json, text/plain, */*", b"application/problem+json"),  # axios
        (b"image/png", b"application/problem+json"),
        (b"text/plain", b"text/plain; charset=utf-8"),
        (b"Text/*", b"text/plain; charset=utf-8"),
        (b"text/html,application/xhtml+xml,*/*;q=0.8", b"text/plain; charset=utf-8"),
    ],
)
def test_the_body_is_what_the_client_can_use(accept, kind):
    answer = render(errors.NotFound(), accept)
    headers = dict(answer.headers)
    assert len(headers) == len(answer.headers)
    assert headers[b"content-type"] == kind
    assert headers[b"content-length"] == str(len(answer.body)).encode()
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"x-content-type-options"] == b"nosniff"


def test_a_program_gets_a_problem_document():
    error = errors.OffsetMismatch("At 5 of \u202e.", expected=5, provided=7, secret=object())
    answer = render(error, None, upload_id="abc")
    assert json.loads(answer.body) == {
        "type": "urn:forebay:error:FB_OFFSET_MISMATCH",
        "title": "Conflict",
        "status": 409,
        "detail": "At 5 of \u202e.",
        "code": "FB_OFFSET_MISMATCH",
        "expected-offset": 5,
        "provided-offset": 7,
        "upload": "abc",
    }


def test_a_person_gets_a_line():
    answer = render(errors.NotFound("No such file: é\ud800."), b"text/html")
    assert answer.body == "No such file: é?. (FB_NOT_FOUND)\n".encode()


@pytest.mark.parametrize(
    ("error", "field"),
    [
        (errors.MethodNotAllowed(allow=("GET", "PUT")), (b"allow", b"GET, PUT")),
        (errors.MethodNotAllowed(allow="GET, PUT"), (b"allow", b"GET, PUT")),
        (errors.MethodNotAllowed(), (b"allow", b"")),
        (errors.RangeNotSatisfiable(size=0), (b"content-range", b"bytes */0")),
        (errors.NotAuthenticated(), (b"www-authenticate", b"Bearer")),
        (
            errors.NotAuthenticated(challenge='Basic realm="a\r\nb"'),
            (b"www-authenticate", b'Basic realm="ab"'),
        ),
        (errors.UnsupportedCoding(), (b"accept-encoding", b"identity")),
        (errors.TooManyUploads(retry_after=7), (b"retry-after", b"7")),
        (errors.ShuttingDown(retry_after=0.2), (b"retry-after", b"1")),
        (errors.NoDescriptors(retry_after=1.2), (b"retry-after", b"2")),
        (errors.SessionsUnavailable(retry_after=None), (b"retry-after", b"1")),
        (errors.UploadBusy(), (b"retry-after", b"1")),
        (errors.Interrupted(), (b"retry-after", b"1")),
        (errors.LeaseLost(), (b"retry-after", b"1")),
        (errors.StorageUnavailable(retry_after=5), (b"retry-after", b"5")),
    ],
)
def test_a_status_brings_the_fields_it_needs(error, field):
    assert field in render(error, None).headers


def test_no_field_is_made_up():
    names = [name for name, _ in render(errors.RangeNotSatisfiable(), None).headers]
    assert b"content-range" not in names
    names = [name for name, _ in render(errors.UnsupportedMediaType(), None).headers]
    assert b"accept-encoding" not in names
