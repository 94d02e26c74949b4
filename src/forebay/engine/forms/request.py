"""How a form is to be received."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.forms.parts import Place, by_kind
from forebay.model import Digest, FormPolicy, LargeField, Principal
from forebay.protocol.multipart_limits import FormLimits

if TYPE_CHECKING:
    from forebay.config import Settings
    from forebay.engine.transfer.progress import ProgressFeed


@dataclasses.dataclass(frozen=True, slots=True)
class FormRequest:
    """A form that is to be received. What is None is as the settings say."""

    content_type: bytes
    """The field of the request; it names the boundary."""
    limits: FormLimits | None = None
    large_fields: LargeField | None = None
    policy: FormPolicy | None = None
    place: Place = by_kind
    """What becomes of each part; by default all that has a file name is a file."""
    empty_inputs: bool = False
    """A file input in which nobody chose a file is a file too, an empty one."""
    expected: tuple[Digest, ...] = ()
    """Digests of the whole body as it came, which must match."""
    coding: str | None = None
    """The content coding to decode."""
    principal: Principal = Principal.anonymous
    context: Mapping[str, Any] | None = None
    """Of the request at hand, for callbacks."""
    authorises: bool = True
    """With a context `Form.publish` authorises each file by its name."""
    progress: ProgressFeed | None = None


def limits_of(settings: Settings) -> FormLimits:
    """The limits that the settings put on every form."""
    return FormLimits(
        max_parts=settings.form_max_parts,
        max_fields=settings.form_max_fields,
        max_files=settings.form_max_files,
        max_field_size=settings.form_max_field_size,
        max_fields_size=settings.form_max_fields_size,
        max_file_size=settings.max_size,
        max_total=settings.form_max_size,
        max_header_size=settings.form_max_part_head,
    )
