"""The head of a request with a form: a POST of multipart/form-data to a folder.

What is wrong with the head is refused here, before any byte of the body is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from forebay.conditions import Preconditions
from forebay.errors import InvalidField
from forebay.model import Conflict, Digest
from forebay.protocol import (
    checksums,
    content_codings,
    content_type,
    fields,
    ietf,
    names,
    preconditions,
    raw,
    whole_file,
)
from forebay.protocol.fields import Headers
from forebay.protocol.form_type import boundary_of


@dataclasses.dataclass(frozen=True, slots=True)
class ReceiveForm:
    """Command: receive a form, and publish its files in `folder` ("" is the root)."""

    folder: str
    content_type: bytes
    conflict: Conflict
    preconditions: Preconditions
    """They apply to every file of the form."""
    expected: tuple[Digest, ...]
    """Digests of the whole body, as it was sent."""
    wanted: tuple[str, ...]
    """Algorithms of the digests to answer with, for each file."""
    coding: str | None = None
    """The content coding of the body, to decode."""


def is_form(method: str, headers: Headers) -> bool:
    """Whether a request is a form; `command` refuses it when it is malformed.

    A PUT never is: it names one file (`content_type` refuses a form there). The first part of a
    resumable upload is none either. A whole form with `Upload-Complete: ?1`, as URLSession sends
    it, is one, as draft-ietf-httpbis-resumable-upload, section 4.2.2, allows.
    """
    return (
        method == "POST"
        and (content_type.is_form_data(headers) or content_type.is_form_without_files(headers))
        and (not ietf.has_completeness(headers) or _whole(headers))
    )


def _whole(headers: Headers) -> bool:
    return ietf.read(headers, without_version=True).complete is True


def command(
    segments: Sequence[str],
    headers: Headers,
    *,
    on_conflict: Conflict,
    decodable: Collection[str] = (),
) -> ReceiveForm:
    """The command for a form that is posted to a folder. `segments`: the decoded path. `decodable`:
    content codings that can be decoded. Raises errors derived from UploadError.
    """
    if content_type.is_form_without_files(headers):
        raise content_type.form_without_files()
    kind = readable_type(headers)
    coding = check_whole(headers, decodable)
    return ReceiveForm(
        folder=names.validate_path(segments) if segments else "",
        content_type=kind,
        conflict=Conflict.RENAME if on_conflict is Conflict.AUTO else on_conflict,
        preconditions=preconditions.parse(headers),
        expected=checksums.all_digests(headers),
        wanted=raw.wanted_digests(headers),
        coding=coding,
    )


def readable_type(headers: Headers) -> bytes:
    """The Content-Type of a form. Raises InvalidField when it is repeated, and the errors of
    `boundary_of`.
    """
    value = fields.single(headers, b"content-type") or b""
    boundary_of(value)
    return value


def check_whole(
    headers: Headers, decodable: Collection[str] = (), method: str = "POST"
) -> str | None:
    """The content coding to decode, if any. Raises UnsupportedCoding for another one, and
    InvalidField and the errors of `whole_file.check` when the form is not whole.
    """
    coding = content_codings.to_decode(headers, decodable)
    if fields.first(headers, b"content-range") is not None:
        raise InvalidField("Content-Range: a form cannot be sent in parts.")
    whole_file.check(method, headers)
    return coding
