"""What the head of a form means, and which heads are none."""

from __future__ import annotations

import pytest

from forebay.errors import InvalidField, InvalidName, InvalidRequest, UploadError
from forebay.model import Conflict
from forebay.protocol import form_request

TYPE = (b"content-type", b"multipart/form-data; boundary=b")
INTEROP_3 = (b"upload-draft-interop-version", b"3")


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("POST", [TYPE], True),
        ("POST", [(b"content-type", b"Multipart/Form-Data; boundary=b")], True),
        ("POST", [(b"content-type", b"multipart/form-data")], True),
        ("POST", [(b"content-type", b"multipart/form-data, boundary=AaB03x")], True),
        ("POST", [(b"content-type", b"multipart/form-data junk")], True),
        ("POST", [(b"content-type", b' "multipart/form-data"; boundary=b')], True),
        ("POST", [(b"content-type", b"text/plain"), TYPE], True),
        ("POST", [(b"content-type", b"multipart/form-database; boundary=b")], False),
        ("POST", [(b"content-type", b"multipart/mixed; boundary=b")], False),
        ("POST", [(b"content-type", b"text/plain")], False),
        ("POST", [], False),
        ("PUT", [TYPE], False),
        ("PATCH", [TYPE], False),
        ("POST", [TYPE, (b"upload-complete", b"?1")], True),
        ("POST", [TYPE, (b"upload-complete", b"?0")], False),
        ("POST", [TYPE, (b"upload-complete", b"1")], False),
        ("POST", [TYPE, (b"upload-complete", b"?1"), (b"upload-complete", b"?1")], False),
        ("POST", [TYPE, INTEROP_3, (b"upload-incomplete", b"?0")], True),
        ("POST", [TYPE, INTEROP_3, (b"upload-incomplete", b"?1")], False),
        ("POST", [TYPE, (b"upload-incomplete", b"?0")], False),
    ],
)
def test_which_requests_are_forms(method, headers, expected):
    assert form_request.is_form(method, headers) is expected


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Conflict.AUTO, Conflict.RENAME),
        (Conflict.REFUSE, Conflict.REFUSE),
        (Conflict.REPLACE, Conflict.REPLACE),
    ],
)
def test_a_form_becomes_a_command(policy, expected):
    command = form_request.command(["a", "b"], [TYPE], on_conflict=policy)
    assert (command.folder, command.conflict) == ("a/b", expected)
    assert (command.content_type, command.expected, command.wanted) == (TYPE[1], (), ())
    root = form_request.command([], [TYPE], on_conflict=policy)
    assert root.folder == ""


@pytest.mark.parametrize(
    ("segments", "headers", "error"),
    [
        ([], [TYPE, TYPE], InvalidField),
        ([], [(b"content-type", b"text/plain"), TYPE], InvalidField),
        ([], [(b"content-type", b"multipart/form-data")], InvalidField),
        ([], [(b"content-type", b"multipart/form-data, boundary=b")], InvalidField),
        ([], [(b"content-type", b'"multipart/form-data"; boundary=b')], InvalidField),
        ([], [(b"content-type", TYPE[1] + b";" * 60_000)], InvalidField),
        ([".."], [TYPE], InvalidName),
        ([], [TYPE, (b"content-encoding", b"br")], UploadError),
        ([], [TYPE, (b"content-range", b"bytes 0-1/2")], InvalidField),
        ([], [TYPE, (b"tus-resumable", b"1.0.0")], InvalidRequest),
        ([], [TYPE, (b"upload-length", b"1")], InvalidRequest),
        ([], [TYPE, (b"content-digest", b"sha-256=x")], InvalidField),
    ],
)
def test_what_is_refused_by_the_head_alone(segments, headers, error):
    with pytest.raises(error):
        form_request.command(segments, headers, on_conflict=Conflict.AUTO)
