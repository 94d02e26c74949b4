"""The sink of a form: takes its bytes apart in the worker thread that received them.

File parts are written as slices of the receive buffer, so a file costs the same as one that
is a whole body: a search of the buffer, and no copy.
"""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable

from forebay.engine.forms.parts import (
    AsField,
    AsFile,
    MultiDict,
    Place,
    client_name,
)
from forebay.engine.transfer.admission import smallest
from forebay.engine.transfer.pump import NO_HASHING, Hashing
from forebay.engine.transfer.spool import Budget, Spool
from forebay.errors import (
    OffsetMismatch,
    Refused,
    TooLarge,
    TooManyUploads,
    UnsupportedMediaType,
)
from forebay.model import About, Conflict, LargeField
from forebay.protocol.charsets import text_of
from forebay.protocol.multipart import MultipartParser
from forebay.protocol.multipart_head import PartHead
from forebay.protocol.multipart_limits import FormLimits
from forebay.protocol.multipart_parts import add_part_name
from forebay.protocol.names import display_filename, is_hidden_name_error, validate_path
from forebay.protocol.parameters import matches_media_type
from forebay.stores.base import Publication, Staged

_FIELD_OVERHEAD = 512
"""What a field costs in memory beside its bytes, roughly: names, dictionaries, strings."""
_UNLIMITED = 2**63 - 1


@dataclasses.dataclass(slots=True)
class ReceivedFile:
    """A file part on its way, or at its end."""

    head: PartHead
    placement: AsFile
    spool: Spool
    hashing: Hashing
    size: int = 0
    error: Refused | None = None
    """Why it was refused, where the others may still be stored; its content is gone then."""


class FormSink:
    """A `forebay.engine.transfer.pump.Sink` that is also the parser's handler.

    Args:
        boundary, limits, charset: of the form.
        large: what becomes of a field beyond `limits.max_field_size`.
        place: decides about each part; with `empty_inputs` also about one of a file input in
            which nobody chose a file.
        stage: makes a staged file.
        check: raises when a publication would be refused now.
        budget: memory that all bodies share; fields count as well.
        threshold: bytes of a file that may stay in memory where its placement says nothing.
        each: a file that is refused is forgotten, and the others are taken all the same.
    """

    def __init__(
        self,
        boundary: bytes,
        limits: FormLimits,
        *,
        large: LargeField,
        place: Place,
        stage: Callable[[], Staged],
        check: Callable[[Publication], None],
        budget: Budget,
        threshold: int,
        charset: str = "utf-8",
        empty_inputs: bool = False,
        each: bool = False,
    ) -> None:
        self._limits = limits
        self._large = large
        self._parser = MultipartParser(boundary, _of_parser(limits, large), self, charset)
        self._place, self._stage, self._check = place, stage, check
        self._budget, self._threshold = budget, threshold
        self._empty_inputs = empty_inputs
        self._each = each
        self._taken = 0
        self._fields_size = 0
        self._fields: list[tuple[str, str]] = []
        self.files: list[ReceivedFile] = []
        self.offset = 0
        self._open: Callable[[memoryview], None] = _drop
        self._head: PartHead | None = None
        self._field: bytearray | None = None
        self._field_limit: int | None = None
        self._file: ReceivedFile | None = None
        self._file_limit: int | None = None

    # --- as a sink ---------------------------------------------------------------------------

    def write(self, data: memoryview, offset: int) -> None:
        if offset != self.offset:
            raise OffsetMismatch(expected=self.offset, provided=offset)
        whole, start = located(data)
        self._parser.decode(whole, start, start + len(data))
        self.offset = offset + len(data)

    @property
    def work(self) -> int:
        """What taking the form apart took, in units of about 0.3 microseconds."""
        return self._parser.work

    def reserve(self, size: int) -> None:
        """Nothing: nobody knows which of the files will grow."""

    def finish(self) -> None:
        """The body has ended. Raises IncompleteBody unless the form has too."""
        self._parser.finish()

    @property
    def fields(self) -> MultiDict[str]:
        return MultiDict(self._fields)

    def about(self, form: About) -> About:
        """What is known so far: the fields, and the file that is on its way. From any thread."""
        file = self._file
        called = display_filename(file.head.filename) if file is not None else None
        return dataclasses.replace(form, filename=called, fields=tuple(self._fields))

    @property
    def on_disk(self) -> bool:
        """Whether there is a file left to remove, which may take its time."""
        return any(file.spool.staged is not None for file in self.files)

    def discard(self) -> None:
        """Gives back all that is held. Idempotent."""
        for file in self.files:
            file.spool.discard()
        taken, self._taken = self._taken, 0
        self._budget.give_back(taken)

    # --- as the parser's handler -------------------------------------------------------------

    def begin_part(self, head: PartHead) -> None:
        self._head, self._open = head, _drop
        if head.empty_file and not self._empty_inputs:
            return
        try:
            placement = self._place(head)
            if isinstance(placement, AsFile):
                self._begin_file(head, placement)
        except Refused as error:
            self._refuse(head, error)
            return
        if isinstance(placement, AsField):
            self._begin_field(head, placement)

    def part_data(self, data: memoryview) -> None:
        self._open(data)

    def end_part(self) -> None:
        if self._file is not None:
            self._end_file(self._file)
        elif self._field is not None and self._head is not None:
            text = text_of(self._field, self._head.charset or "utf-8")
            self._fields.append((self._head.name, text))
        self._head = self._field = self._file = None
        self._open = _drop

    # --- fields ------------------------------------------------------------------------------

    def _begin_field(self, head: PartHead, placement: AsField) -> None:
        self._take(_FIELD_OVERHEAD + 4 * len(head.name))
        self._field = bytearray()
        self._field_limit = placement.max_size
        self._open = self._add_to_field

    def _add_to_field(self, data: memoryview) -> None:
        field = self._field
        assert field is not None
        assert self._head is not None
        size = len(field) + len(data)
        if self._field_limit is not None and size > self._field_limit:
            raise add_part_name(_too_large(self._head, self._field_limit), self._head.name, None)
        if self._large is LargeField.DISK and size > self._limits.max_field_size:
            self._move_field(field, self._head)
            self._add_to_file(data)
            return
        self._fields_size += len(data)
        if self._fields_size > self._limits.max_fields_size:
            raise TooLarge(
                "The fields of the form are together larger than "
                f"{self._limits.max_fields_size} bytes (--form-max-fields-size).",
                limit=self._limits.max_fields_size,
            )
        self._take(len(data))
        field += data

    def _move_field(self, field: bytearray, head: PartHead) -> None:
        """The field becomes a file without a name, on the disk."""
        self._field = None
        self._fields_size -= len(field)
        self._begin_file(head, AsFile(threshold=0, max_size=self._field_limit))
        with memoryview(field) as held:
            self._add_to_file(held)
        self._taken -= len(field)
        self._budget.give_back(len(field))

    def _take(self, size: int) -> None:
        if not self._budget.take(size):
            raise TooManyUploads(
                "The memory for forms is in use (--memory-budget); try again soon.", retry_after=5
            )
        self._taken += size

    # --- files -------------------------------------------------------------------------------

    def _begin_file(self, head: PartHead, placement: AsFile) -> None:
        accepted = placement.accept_types
        if accepted and not matches_media_type(head.media_type, accepted):
            raise UnsupportedMediaType(
                f"The media type {head.media_type} is not accepted here (--accept-types)."
            )
        if head.made_name and placement.name in (None, head.filename):
            # Nobody meant the file that has this name, so it is neither replaced nor in the way.
            placement = dataclasses.replace(placement, conflict=Conflict.RENAME)
        name = placement.name or client_name(head.filename)
        if name is not None:  # refused before its bytes are read; judged again at the end
            folder = placement.folder.split("/") if placement.folder else []
            path = validate_path([*folder, name])
            self._check(Publication(path, placement.conflict, placement.preconditions))
        threshold = self._threshold if placement.threshold is None else placement.threshold
        spool = Spool(self._stage, self._budget, threshold)
        hashing = Hashing(placement.wanted) if placement.wanted else NO_HASHING
        self._file = ReceivedFile(head, placement, spool, hashing)
        self.files.append(self._file)
        self._file_limit = smallest(placement.max_size, self._limits.max_file_size)
        self._open = self._add_to_file

    def _add_to_file(self, data: memoryview) -> None:
        file = self._file
        assert file is not None
        end = file.size + len(data)
        if self._file_limit is not None and end > self._file_limit:
            self._refuse(file.head, _too_large(file.head, self._file_limit))
            return
        file.hashing.update(data)
        file.spool.write(data, file.size)
        file.size = end

    def _refuse(self, head: PartHead, error: Refused) -> None:
        """Ends the form, unless the file stands for itself: any with `each`, a hidden one always
        (a folder has them that its user never saw). Then what comes of it is dropped.
        """
        if not head.is_file or not (self._each or is_hidden_name_error(error)):
            raise add_part_name(error, head.name, head.filename)
        file, self._file, self._open = self._file, None, _drop
        if file is None:
            spool = Spool(self._stage, self._budget, 0)
            file = ReceivedFile(head, AsFile(), spool, NO_HASHING)
            self.files.append(file)
        file.error = error
        file.spool.discard()

    def _end_file(self, file: ReceivedFile) -> None:
        staged = file.spool.staged
        if staged is not None:
            staged.rollback(file.size)  # what was taken and not used is for the next one


def _of_parser(limits: FormLimits, large: LargeField) -> FormLimits:
    """Files, and fields that may be large, are counted here; the rest by the parser."""
    limits = dataclasses.replace(limits, max_file_size=None)
    if large is LargeField.REFUSE:
        return limits
    if large is LargeField.MEMORY:
        return dataclasses.replace(limits, max_field_size=limits.max_fields_size)
    return dataclasses.replace(limits, max_field_size=_UNLIMITED, max_fields_size=_UNLIMITED)


def _too_large(head: PartHead, limit: int) -> TooLarge:
    kind, flag = ("file", " (--max-size)") if head.is_file else ("text", "")
    return TooLarge(f"The {kind} is larger than {limit} bytes{flag}.", limit=limit)


def _drop(_: memoryview) -> None:
    return None


def located(data: memoryview) -> tuple[bytes | bytearray | memoryview, int]:
    """The bytearray that `data` is a slice of and where it begins there, to be searched in
    place; `data` itself when it is no such thing."""
    behind = data.obj
    if not isinstance(behind, bytearray) or not data.c_contiguous or len(data) == len(behind):
        return data, 0
    if not len(data) or data.readonly:
        return data, 0
    first = ctypes.addressof(ctypes.c_char.from_buffer(behind))
    return behind, ctypes.addressof(ctypes.c_char.from_buffer(data)) - first
