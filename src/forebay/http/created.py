"""The answer to a request that stored a file."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from forebay.http.answers import Headers, json_bytes
from forebay.protocol import names

if TYPE_CHECKING:
    from forebay.model import Stored
    from forebay.protocol.status import Answer

_quoted = json.encoder.encode_basestring_ascii


def created(stored: Stored, media_type: str | None, files: str | None) -> Answer:
    """200 or 201, with a description of the stored file as JSON.

    `files` is the beginning of links to files, None where no files are mounted. The JSON is
    written out rather than built and dumped, since every small upload is answered with it.
    Its digests are of the file; a Repr-Digest would be of this JSON (RFC 9530, section 3.2).
    """
    file = stored.file
    extra: Headers = []
    if stored.received is None:  # RFC 9110, section 9.3.4: not when the body was transformed
        extra.append((b"etag", f'"{file.tag}"'.encode()))
    url = "null"
    if files is not None:
        location = f"{files}/{names.quote_path(file.name)}"
        url = _quoted(location)
        extra.insert(0, (b"location", location.encode()))
    digests = ""
    if stored.digests:
        encoded = {d.algorithm: base64.b64encode(d.value).decode() for d in stored.digests}
        digests = f'"digest": {json.dumps(encoded)}, '
    received = "" if stored.received is None else f'"received": {stored.received}, '
    body = (
        f'{{"name": {_quoted(file.name)}, "size": {file.size}, {received}'
        f'"type": {"null" if media_type is None else _quoted(media_type)}, '
        f'"url": {url}, "etag": "\\"{file.tag}\\"", {digests}'
        f'"renamed": {"true" if stored.renamed else "false"}, '
        f'"duration": {stored.duration:.6f}}}\n'
    ).encode()
    # RFC 9110, section 9.3.4: 201 for a new file, 200 for one that was replaced.
    return json_bytes(200 if stored.replaced else 201, body, extra)
