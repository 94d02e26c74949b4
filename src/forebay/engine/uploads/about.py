"""What a client says of a file, kept in its record: callbacks are given it after a restart, too."""

from __future__ import annotations

import json
from typing import Any

from forebay.errors import InvalidField
from forebay.model import About, UploadRecord
from forebay.protocol.tus_metadata import client_filename, decoded_metadata, parse_metadata

MOST_TEXT = 64 << 10
"""Characters of a form's fields that are kept; what is beyond is left out after a restart."""


def kept(about: About) -> dict[str, Any]:
    """As part of a record's `extra`; metadata has a place of its own there."""
    found: dict[str, Any] = {}
    if about.filename is not None:
        found["filename"] = about.filename
    room, fields = MOST_TEXT, []
    for name, value in about.fields:
        room -= len(name) + len(value)
        if room >= 0:
            fields.append((name, value))
    if fields:
        found["fields"] = fields
    return found


def about_of(record: UploadRecord) -> About:
    """What is known of an upload."""
    extra = json.loads(record.extra or b"{}")
    try:
        pairs = parse_metadata(record.metadata)
    except InvalidField:
        pairs = {}
    filename = extra.get("filename") or client_filename(pairs)
    fields = tuple((name, value) for name, value in extra.get("fields", ()))
    return About(filename, decoded_metadata(pairs), fields, record.length, record.media_type)
