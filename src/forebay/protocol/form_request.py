"""The head of a form: a POST of multipart/form-data to a folder (design: the URL space).

What the head alone shows to be wrong is refused here, before a byte of the body is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from forebay.errors import InvalidField, MethodNotAllowed
from forebay.model import Conflict, Digest, Preconditions
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
    """A wish: take a form, and publish its files in `folder` ("" is the root)."""

    folder: str
    content_type: bytes
    conflict: Conflict
    preconditions: Preconditions
    """They apply to every file of the form."""
    expected: tuple[Digest, ...]
    """Of the whole body, as it was sent."""
    wanted: tuple[str, ...]
    """Algorithms of the digests to tell of each file."""
    coding: str | None = None
    """A content coding to take off the body."""


def is_form(method: str, headers: Headers) -> bool:
    """Whether a request is a form to take apart, or one that `command` refuses as unreadable.

    A PUT never is: it gives its body one name, which a form has no use for (`content_type`
    refuses it). Nor is what begins a resumable upload with a part of it. A whole form in the
    terms of one (`Upload-Complete: ?1`, as URLSession sends every upload) is taken like any
    other, as a target may (draft-ietf-httpbis-resumable-upload, section 4.2.2).
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
    folder: bool,
    on_conflict: Conflict,
    decodable: Collection[str] = (),
) -> ReceiveForm:
    """The wish of a form. `decodable` are the content codings that may be taken off it.

    Raises an UploadError for what cannot be done.
    """
    if content_type.is_form_without_files(headers):
        raise content_type.form_without_files()
    kind = readable_type(headers)
    if not folder:
        raise MethodNotAllowed(
            "A form goes to a folder, with '/' at its end; PUT stores under this name.",
            allow=raw.FILE_METHODS,
        )
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
    """The Content-Type of a form. Raises InvalidField for two of them, and what `boundary_of`
    raises.
    """
    value = fields.single(headers, b"content-type") or b""
    boundary_of(value)
    return value


def check_whole(
    headers: Headers, decodable: Collection[str] = (), method: str = "POST"
) -> str | None:
    """The content coding to take off. Raises what refuses a form with another, or one that is a
    part of something else.
    """
    coding = content_codings.to_decode(headers, decodable)
    if fields.first(headers, b"content-range") is not None:
        raise InvalidField("Content-Range: a form cannot be sent in parts.")
    whole_file.check(method, headers)
    return coding
