"""A declared form: its files are where they belong, its fields are text, before the handler."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic

from forebay.engine.forms.form import Form as ReceivedForm
from forebay.engine.forms.form import Outcome, limits_of
from forebay.engine.forms.parts import (
    AsField,
    AsFile,
    FormFile,
    MultiDict,
    Place,
    Placement,
)
from forebay.engine.transfer.decoding import offered
from forebay.errors import UnsupportedMediaType, UploadError
from forebay.http.verdicts import verdict_of
from forebay.library.calls import Call
from forebay.library.form_checks import absent, checked, refuse
from forebay.library.form_fields import problem
from forebay.library.options import FormWish, UploadOptions
from forebay.library.upload import RequestHead, Upload
from forebay.model import Conflict, FormPolicy, Principal, Stored
from forebay.protocol import checksums, content_type, form_request, names
from forebay.protocol.multipart_head import PartHead
from forebay.protocol.multipart_limits import FormLimits
from forebay.protocol.multipart_parts import add_part_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import TypeVar

    from forebay.config import Settings
    from forebay.engine.engine import Engine

    M = TypeVar("M", default=Any)
else:
    from typing import TypeVar

    M = TypeVar("M")
T = TypeVar("T")


class FormValues(MultiDict[T]):
    """As a mapping it has the first value of each name; `getall` has every one."""

    def __getitem__(self, name: str) -> T:
        try:
            return super().__getitem__(name)
        except KeyError:
            raise absent(name) from None


@dataclasses.dataclass(frozen=True, slots=True)
class LeftOut:
    """A file of a form that was not stored, though the others were."""

    field: str
    filename: str
    """As the client sent it, not judged."""
    error: UploadError


class Form(Mapping[str, Any], Generic[M]):
    """A received form: `form["title"]` is text, `form["clip"]` an `Upload`.

    A field that is declared with a type has a value of that type, one that is declared for
    several files a list of uploads. Of any other name it is the first value; `getall` has every
    one. A name that is not there raises MissingField, a KeyError: from a handler it is answered
    by 422.
    """

    def __init__(
        self,
        texts: MultiDict[str],
        files: MultiDict[Upload],
        *,
        lists: Iterable[str] = (),
        model: Any = None,
        values: Mapping[str, Any] | None = None,
        left_out: Sequence[LeftOut] = (),
    ) -> None:
        self.fields: FormValues[str] = FormValues(texts.multi_items())
        """The text fields, as text."""
        self.files: FormValues[Upload] = FormValues(files.multi_items())
        """The files."""
        self.model: M = model
        """The text fields as `fields=` declares them: an instance of that model; else None."""
        self.left_out = left_out
        """Hidden files among the others, which were not stored: tell the client of them."""
        self._lists = tuple(lists)
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        if name in self._lists:
            return self.files.getall(name)
        return self.fields[name] if name in self.fields else self.files[name]

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys((*self._values, *self.fields, *self._lists, *self.files))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def getall(self, name: str) -> list[Any]:
        """Every value of that name: the text first, as it was sent, then the files."""
        return [*self.fields.getall(name), *self.files.getall(name)]

    def __repr__(self) -> str:
        return f"Form(fields={self.fields!r}, files={self.files!r})"


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """Where one field's files go, for one request."""

    wish: UploadOptions
    segments: tuple[str, ...]
    is_folder: bool


@contextlib.asynccontextmanager
async def received(engine: Engine, call: Call, wish: FormWish) -> AsyncIterator[Form]:
    """The form, for the block. Raises an UploadError before the block for what is refused.

    Files with a destination are published, all of them or none, and taken back when the block
    raises; `on_complete` is told when it has ended well. The others are gone after it.
    """
    scope = call.scope
    kind, coding = check_head(scope, engine.settings)
    targets = {}
    for field, one in wish.files.items():
        segments, is_folder = await one.place(scope)
        targets[field] = Target(one, segments, is_folder)
    principal = await engine.authorise("create", "", scope)
    async with engine.receive_form(
        call.source(),
        kind,
        limits=_limits(engine.settings, wish.max_size),
        place=_placing(targets, wish, engine.settings),
        policy=FormPolicy.ALL,
        expected=checksums.all_digests(scope["headers"]),
        coding=coding,
        principal=principal,
        context=scope,
    ) as form:
        left_out = _left_out(form.refused)
        if left_out and not form.files:
            raise left_out[0].error
        texts, model = await checked(form, wish)
        outcomes = await form.publish(
            lambda file: _target(targets, file.field).wish.to is not None, tell=False
        )
        stored = {outcome.id: outcome.stored for outcome in outcomes if outcome.stored}
        head = RequestHead(scope)
        async with form.waiting(outcomes, verdict_of(scope)):
            yield Form(
                texts,
                _uploads(engine, form, stored, principal, head),
                lists=wish.lists,
                model=model,
                values=wish.fields.values(model) if wish.fields is not None else None,
                left_out=left_out,
            )


def check_head(scope: dict[str, Any], settings: Settings) -> tuple[bytes, str | None]:
    """The Content-Type of a form, and the coding to take off it. Raises what refuses a request
    that is none.
    """
    headers = scope["headers"]
    if not content_type.is_form_data(headers):
        raise UnsupportedMediaType("Send a form here (multipart/form-data).")
    kind = form_request.readable_type(headers)
    return kind, form_request.check_whole(headers, offered(settings), scope["method"])


def _limits(settings: Settings, max_size: int | None) -> FormLimits:
    limits = limits_of(settings)
    if max_size is None:
        return limits
    return dataclasses.replace(limits, max_total=min(max_size, limits.max_total or max_size))


def _target(targets: Mapping[str, Target], field: str) -> Target:
    target = targets.get(field) or targets.get("*")
    if target is None:
        raise refuse(problem("file_forbidden", field, "No file is taken in this field"))
    return target


def _placing(targets: Mapping[str, Target], wish: FormWish, settings: Settings) -> Place:
    seen: set[str] = set()
    single = wish.named - wish.lists
    texts = wish.fields.names if wish.fields is not None else frozenset()

    def place(head: PartHead) -> Placement:
        if not head.is_file:
            return AsField()
        if head.name in texts:
            raise refuse(problem("string_type", head.name, "Send text in this field, not a file"))
        placement = place_file(head)  # a hidden file is left out, and is not one too many
        if head.name in seen and head.name in single:
            raise refuse(problem("too_many_files", head.name, "Send one file in this field"))
        seen.add(head.name)
        return placement

    def place_file(head: PartHead) -> Placement:
        target = _target(targets, head.name)
        wish, segments = target.wish, target.segments
        folder = segments if target.is_folder else segments[:-1]
        own = None
        if not target.is_folder:
            own = segments[-1]
        elif wish.to is not None:
            own = names.from_client_name(head.filename or "")
        default = Conflict.RENAME if target.is_folder else Conflict.REFUSE
        asked = None if wish.conflict is Conflict.AUTO else wish.conflict
        general = None if settings.on_conflict is Conflict.AUTO else settings.on_conflict
        return AsFile(
            folder="/".join(folder),
            name=own,
            max_size=wish.max_size,
            threshold=wish.threshold,
            accept_types=wish.types or settings.accept_types,
            conflict=asked or general or default,
            wanted=(wish.digest,) if wish.digest else (),
        )

    return place


def _left_out(outcomes: Iterable[Outcome]) -> list[LeftOut]:
    return [
        LeftOut(
            outcome.field,
            outcome.filename or "",
            add_part_name(outcome.error, outcome.field, outcome.filename),
        )
        for outcome in outcomes
        if outcome.error is not None
    ]


def _uploads(
    engine: Engine,
    form: ReceivedForm,
    stored: Mapping[str, Stored],
    principal: Principal,
    head: RequestHead,
) -> MultiDict[Upload]:
    return MultiDict(
        (field, upload_of(engine, file, stored.get(file.id), principal, head))
        for field, file in form.files.multi_items()
    )


def upload_of(
    engine: Engine,
    file: FormFile,
    stored: Stored | None,
    principal: Principal,
    head: RequestHead | None = None,
) -> Upload:
    upload = Upload(
        id=file.id,
        name=file.name or "",
        about=file.about,
        media_type=file.media_type,
        digests=file.digests,
        principal=principal,
        head=head,
        engine=engine,
    )
    if stored is not None:
        upload.published(stored)
    else:
        upload.held(file)
    return upload
