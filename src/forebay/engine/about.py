"""What a client says of a file, as its record has it: callbacks get it after a restart, too."""

from __future__ import annotations

from forebay.errors import InvalidField
from forebay.model import About, UploadRecord
from forebay.protocol.tus_metadata import client_filename, decoded_metadata, parse_metadata
from forebay.record import Extra

MOST_TEXT = 64 << 10
"""Characters of a form's fields that are stored; what is beyond is missing after a restart."""


def stored_fields(about: About) -> tuple[tuple[str, str], ...]:
    """The form's fields that fit into a record, in order."""
    room, fields = MOST_TEXT, []
    for name, value in about.fields:
        room -= len(name) + len(value)
        if room >= 0:
            fields.append((name, value))
    return tuple(fields)


def about_of(record: UploadRecord) -> About:
    """What is known of an upload."""
    extra = Extra.of(record)
    try:
        pairs = parse_metadata(record.metadata)
    except InvalidField:
        pairs = {}
    filename = extra.filename or client_filename(pairs)
    return About(filename, decoded_metadata(pairs), extra.fields, record.length, record.media_type)
