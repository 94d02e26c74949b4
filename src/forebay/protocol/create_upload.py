"""The command to create a resumable upload, made from the command to receive a whole file."""

from __future__ import annotations

import dataclasses

from forebay.model import CreateUpload, Receive
from forebay.protocol.checksums import file_digests
from forebay.protocol.fields import Headers

__all__ = ["create_upload"]


def create_upload(
    dialect: str, target: Receive, length: int | None, headers: Headers
) -> CreateUpload:
    """`target`: the command that the request would be without a resumable protocol. `length`: bytes
    of the whole file, None when not known. Raises InvalidField.
    """
    return CreateUpload(
        dialect=dialect,
        name=target.name,
        conflict=target.conflict,
        length=length,
        media_type=target.media_type,
        # RFC 9530, section 3: digests of the whole file, also in a request with a part of it
        expected=file_digests(headers),
        wanted=target.wanted,
        max_size=target.max_size,
        preconditions=target.preconditions,
        about=dataclasses.replace(target.about, length=length),
    )
