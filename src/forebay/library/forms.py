"""A declared form: its files are where they belong, its fields are text, before the handler."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.decoding import offered
from forebay.engine.form_parts import AsField, AsFile, FormFile, MultiDict, Place, Placement
from forebay.engine.forms import Form as ReceivedForm
from forebay.engine.forms import limits_of
from forebay.errors import InvalidRequest, UnsupportedMediaType
from forebay.library.calls import Call
from forebay.library.upload import RequestHead, Upload
from forebay.library.wishes import FormWish, Wish
from forebay.model import Conflict, FormPolicy, Principal, Stored
from forebay.protocol import fields, form_request, raw
from forebay.protocol.multipart_head import FormLimits, PartHead

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.config import Settings
    from forebay.engine.engine import Engine


class Form(Mapping[str, Any]):
    """A received form: `form["title"]` is text, `form["clip"]` an `Upload`.

    As a mapping it has the first value of each name; `getall` has every one. Names that only a
    file has come after those of the text fields.
    """

    def __init__(self, texts: MultiDict[str], files: MultiDict[Upload]) -> None:
        self.fields = texts
        """The text fields."""
        self.files = files
        """The files."""

    def __getitem__(self, name: str) -> Any:
        return self.fields[name] if name in self.fields else self.files[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.fields
        yield from (name for name in self.files if name not in self.fields)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def getall(self, name: str) -> list[Any]:
        """Every value of that name: the text first, then the files."""
        return [*self.fields.getall(name), *self.files.getall(name)]

    def __repr__(self) -> str:
        return f"Form(fields={self.fields!r}, files={self.files!r})"


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """Where one field's files go, for one request."""

    wish: Wish
    segments: tuple[str, ...]
    is_folder: bool


@contextlib.asynccontextmanager
async def received(engine: Engine, call: Call, wish: FormWish) -> AsyncIterator[Form]:
    """The form, for the block. Raises an UploadError before the block for what is refused.

    Files with a destination are published, all of them or none, and taken back when the block
    raises; `on_complete` is told when it has ended well. The others are gone after it.
    """
    scope = call.scope
    content_type, coding = check_head(scope, engine.settings)
    targets = {}
    for field, one in wish.files.items():
        segments, is_folder = await one.place(scope)
        targets[field] = Target(one, segments, is_folder)
    principal = await engine.authorise("create", "", scope)
    async with engine.receive_form(
        call.source(),
        content_type,
        limits=_limits(engine.settings, wish.max_size),
        place=_placing(targets, engine.settings),
        policy=FormPolicy.ALL,
        expected=raw.expected_digests(scope["headers"]),
        coding=coding,
        principal=principal,
        context=scope,
    ) as form:
        _check_required(form, wish)
        outcomes = await form.publish(
            lambda file: _target(targets, file.field).wish.to is not None, tell=False
        )
        stored = {outcome.id: outcome.stored for outcome in outcomes if outcome.stored}
        head = RequestHead(scope)
        try:
            yield _form(engine, form, stored, principal, head)
        except BaseException:
            await form.take_back(outcomes)
            raise
        await form.tell(outcomes)


def check_head(scope: dict[str, Any], settings: Settings) -> tuple[bytes, str | None]:
    """The Content-Type of a form, and the coding to take off it. Raises what refuses a request
    that is none.
    """
    headers = scope["headers"]
    content_type = fields.first(headers, b"content-type") or b""
    if fields.media_type(content_type)[0] != "multipart/form-data":
        raise UnsupportedMediaType("Send a form here (multipart/form-data).")
    return content_type, form_request.check_whole(headers, offered(settings))


def _limits(settings: Settings, max_size: int | None) -> FormLimits:
    limits = limits_of(settings)
    if max_size is None:
        return limits
    return dataclasses.replace(limits, max_total=min(max_size, limits.max_total or max_size))


def _target(targets: Mapping[str, Target], field: str) -> Target:
    target = targets.get(field) or targets.get("*")
    if target is None:
        raise InvalidRequest(f"No file is taken in the field {field[:80]!r}.")
    return target


def _placing(targets: Mapping[str, Target], settings: Settings) -> Place:
    def place(head: PartHead) -> Placement:
        if not head.is_file:
            return AsField()
        target = _target(targets, head.name)
        wish, segments = target.wish, target.segments
        folder = segments if target.is_folder else segments[:-1]
        own = _own_name(head.filename) if target.is_folder else segments[-1]
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


def _own_name(filename: str | None) -> str | None:
    """The client's own, judged where it is used; one of ours when it gives none."""
    return None if filename else f"upload-{secrets.token_hex(8)}"


def _check_required(form: ReceivedForm, wish: FormWish) -> None:
    for name in wish.required:
        if name not in form.fields and name not in form.files:
            raise InvalidRequest(f"The form needs the field {name!r}.")


def _form(
    engine: Engine,
    form: ReceivedForm,
    stored: Mapping[str, Stored],
    principal: Principal,
    head: RequestHead,
) -> Form:
    files = [
        (field, upload_of(engine, file, stored.get(file.id), principal, head))
        for field, file in form.files.multi_items()
    ]
    return Form(form.fields, MultiDict(files))


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
        filename=file.name,
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
