"""Raw uploads: a PUT to a name, a POST to a folder.

Makes a `Receive` of the head of a request, or refuses it. What can be checked in the head alone is
checked here, before anything is opened.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from forebay.errors import (
    InvalidField,
    InvalidName,
    MethodNotAllowed,
    NotOffered,
    UnsupportedMediaType,
)
from forebay.model import About, Conflict, Receive
from forebay.protocol import (
    checksums,
    content_codings,
    content_type,
    digest_fields,
    fields,
    names,
    preconditions,
    whole_file,
)
from forebay.protocol.fields import Headers
from forebay.protocol.parameters import matches_media_type, parse_content_disposition

_INSTEAD = {
    ("PUT", True): "PUT needs the name of a file; POST here to let the server choose one.",
    ("POST", False): "POST goes to a folder, with '/' at its end; PUT stores under this name.",
    ("DELETE", False): "Files are removed only where the server runs with --allow-delete.",
}
"""What to do instead, by method and whether the path is a folder."""


def methods_of(folder: bool, *, partial: bool, delete: bool) -> tuple[str, ...]:
    """The methods of a folder, or of a file: with parts by Content-Range, and with deletion."""
    if folder:
        return ("GET", "HEAD", "POST", "OPTIONS")
    patch = ("PATCH",) if partial else ()
    return ("GET", "HEAD", "PUT", *patch, "OPTIONS", *(("DELETE",) if delete else ()))


def refuse_method(method: str, folder: bool) -> MethodNotAllowed:
    """The refusal of a method that `methods_of` does not have."""
    return MethodNotAllowed(_INSTEAD.get((method, folder)))


def command(
    method: str,
    segments: Sequence[str],
    headers: Headers,
    query: Mapping[str, str],
    *,
    on_conflict: Conflict,
    accept_types: Sequence[str],
    generated: str,
    decodable: Collection[str] = (),
    sent: str | None = None,
    begins: bool = False,
    own_path: bool = False,
) -> Receive:
    """The command of a PUT to a file or a POST to a folder. Raises errors derived from UploadError.

    `segments`: the decoded path below `/files`. `generated`: name for a POST without one.
    `decodable`: content codings that can be decoded. `sent`: the method of the request, where
    `method` is another. `begins`: the request creates an upload of the IETF draft; otherwise its
    body must be a whole file. `own_path`: the client chose the path, so its last part is the
    client's name for the file.
    """
    # Most requests have none of the rare fields: look for these only when they are there.
    known = dict(headers)
    media_type = known.get(b"content-type")
    coding = content_codings.to_decode(headers, decodable) if b"content-encoding" in known else None
    _check_content(method, headers, accept_types, known, own_path)
    if begins:
        whole_file.check_beginning(sent or method, headers)
    else:
        whole_file.check(sent or method, headers, known)
    if method == "PUT":
        name = names.validate_path(segments)
        policy = Conflict.REFUSE
    else:
        name = names.validate_path([*segments, *_given_name(headers, query, generated)])
        policy = Conflict.RENAME
    if on_conflict is not Conflict.AUTO:
        policy = on_conflict
    return Receive(
        name=name,
        conflict=policy,
        preconditions=preconditions.parse(headers),
        media_type=media_type.decode("latin-1") if media_type else None,
        expected=() if checksums.FIELDS.isdisjoint(known) else checksums.all_digests(headers),
        # The digest of a body that is decoded is not that of the stored file.
        wanted=wanted_digests(headers) if b"want-repr-digest" in known and coding is None else (),
        coding=coding,
        about=About(
            _client_filename(
                headers, known, query, segments if own_path and method == "PUT" else ()
            )
        ),
    )


_NAMES = frozenset((b"content-disposition", b"x-filename"))


def _client_filename(
    headers: Headers,
    known: Collection[bytes],
    query: Mapping[str, str],
    segments: Sequence[str],
) -> str | None:
    """The client's name for the file; None when it does not say."""
    given: Sequence[str] = ()
    if query or not _NAMES.isdisjoint(known):
        try:
            given = _given_name(headers, query, "", validate=False)
        except InvalidName:  # a malformed escape
            given = ()
    found = [*segments[-1:], *filter(None, given[-1:])]
    return names.display_filename(found[-1]) if found else None


def _check_content(
    method: str,
    headers: Headers,
    accept_types: Sequence[str],
    known: Collection[bytes],
    own_path: bool,
) -> None:
    if b"content-range" in known:
        # RFC 9110, section 9.3.4: a part must not be stored as the whole.
        if method == "POST":
            raise InvalidField("Content-Range belongs to a PUT or PATCH of a file's own name.")
        if own_path:
            raise NotOffered("Partial uploads are not offered here (--no-resumable).")
        raise InvalidField("Content-Range: a part of a file is not taken here; send it whole.")
    kind = content_type.file_type(headers) if b"content-type" in known else ""
    if method == "POST" and kind and content_type.is_form_without_files(headers):
        raise content_type.form_without_files()
    if accept_types and not (kind and matches_media_type(kind, accept_types)):
        raise UnsupportedMediaType(
            f"The media type {kind or '(none)'} is not accepted here (--accept-types)."
        )


def client_filename(headers: Headers) -> str | None:
    """The client's name for the file, from the head of a request; see `About.filename`."""
    return _client_filename(headers, dict(headers), {}, ())


def _given_name(
    headers: Headers, query: Mapping[str, str], generated: str, *, validate: bool = True
) -> list[str]:
    """Content-Disposition, then X-Filename (percent-encoded UTF-8), then `?name=`.

    The first two may hold a path of the client's own disk, so only its last part is used; `?name=`
    is meant for this server and may have folders. Raises InvalidField for a repeated or malformed
    field: the file must not get another name than the client asked for.
    """
    once = fields.single if validate else fields.first
    disposition = once(headers, b"content-disposition")
    if disposition is not None and disposition.strip(b" \t"):
        parsed = parse_content_disposition(disposition)
        if parsed is None and validate:
            raise InvalidField(
                'Content-Disposition cannot be read. It must be: attachment; filename="...", with '
                "each parameter once."
            )
        if parsed is not None and parsed.filename:
            return [names.from_client_name(parsed.filename) if validate else parsed.filename]
    plain = once(headers, b"x-filename")
    if plain:
        path = "/".join(names.split_path(plain))
        return [names.from_client_name(path) if validate else path]
    if query.get("name"):
        return query["name"].split("/")
    return [generated]


def wanted_digests(headers: Headers) -> tuple[str, ...]:
    """The algorithm to answer with, from Want-Repr-Digest, if it is known."""
    values = fields.every(headers, b"want-repr-digest")
    return digest_fields.wanted_algorithms(values)[:1] if values else ()
