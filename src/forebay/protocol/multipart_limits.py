"""The limits on a form, and the error when one is exceeded."""

from __future__ import annotations

from dataclasses import dataclass

from forebay.errors import TooLarge

__all__ = ["FormLimits", "too_large"]


@dataclass(frozen=True, slots=True)
class FormLimits:
    """The limits of one form. Sizes are in bytes; None is no limit.

    A part with a file name is a file, any other part a field. `max_fields_size` is for all fields
    together, since a caller holds those in memory; `max_total` counts every byte of the body,
    framing included. The settings have the defaults.
    """

    max_parts: int
    max_fields: int
    max_files: int
    max_field_size: int
    max_fields_size: int
    max_file_size: int | None
    max_total: int | None
    max_header_size: int
    max_headers: int = 32


_FLAGS = {
    "parts": "--form-max-parts",
    "fields": "--form-max-fields",
    "files": "--form-max-files",
    "field_size": "--form-max-field-size",
    "fields_size": "--form-max-fields-size",
    "file_size": "--max-size",
    "total": "--form-max-size",
    "header_size": "--form-max-part-head",
}


def too_large(message: str, what: str, limit: int) -> TooLarge:
    """The error for a limit, named without its `max_`. `message` has {} in place of the limit."""
    return TooLarge(f"{message.format(limit)} (max_{what}, {_FLAGS[what]}).", limit=limit)
