"""The command that creates a resumable upload of what a plain PUT or POST would store."""

from __future__ import annotations

import dataclasses

from forebay.model import CreateUpload, Receive
from forebay.protocol import checksums
from forebay.protocol.fields import Headers

__all__ = ["create_from"]


def create_from(
    plain: Receive,
    dialect: str,
    length: int | None,
    headers: Headers,
    *,
    max_size: int | None,
    by_name: bool = False,
) -> CreateUpload:
    """`plain`: the command of the request without the resumable protocol. `length`: bytes of the
    whole file, None when not known. Raises what reading the digests in `headers` raises.
    """
    return CreateUpload(
        dialect=dialect,
        name=plain.name,
        conflict=plain.conflict,
        length=length,
        media_type=plain.media_type,
        # RFC 9530, section 3: digests of the whole file, also in a request with a part
        expected=checksums.file_digests(headers),
        wanted=plain.wanted,
        max_size=max_size,
        preconditions=plain.preconditions,
        by_name=by_name,
        about=dataclasses.replace(plain.about, length=length),
    )
