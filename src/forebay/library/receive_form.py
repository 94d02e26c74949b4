"""A declared form: its files are published and its fields are checked before the handler runs."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.bodies.verdict import until_answered
from forebay.engine.forms.form import Outcome, notifications
from forebay.engine.forms.parts import AsField, AsFile, FormFile, MultiDict, Place, Placement
from forebay.engine.forms.request import FormRequest, limits_of
from forebay.engine.transfer.decoding import offered
from forebay.errors import UnsupportedMediaType
from forebay.http.verdicts import verdict_of
from forebay.library.asgi_request import AsgiRequest
from forebay.library.form_fields import problem
from forebay.library.form_validation import refuse, validated
from forebay.library.forms import Form, LeftOut
from forebay.library.options import FormOptions, UploadOptions
from forebay.library.upload import RequestHead, Upload
from forebay.model import Conflict, FormPolicy, Principal, Stored
from forebay.protocol import checksums, content_type, form_request, names
from forebay.protocol.multipart_head import PartHead
from forebay.protocol.multipart_limits import FormLimits
from forebay.protocol.multipart_parts import add_part_name

if TYPE_CHECKING:
    from forebay.config import Settings
    from forebay.engine.engine import Engine


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """The destination of one field's files, for one request."""

    options: UploadOptions
    segments: tuple[str, ...]
    is_folder: bool


Targets = Mapping[str, Target]
"""By field; `*` for all other fields."""


@contextlib.asynccontextmanager
async def receive_form(
    engine: Engine, request: AsgiRequest, options: FormOptions
) -> AsyncIterator[Form]:
    """The form, for the block. Raises an UploadError before the block when it is refused.

    Files with a destination are published, all or none, and removed again when the block raises;
    `on_complete` is called when the block has ended well. The other files are gone after it.
    """
    scope = request.scope
    kind, coding = check_head(scope, engine.settings)
    targets = {}
    for field, one in options.files.items():
        segments, is_folder = await one.place(scope)
        targets[field] = Target(one, segments, is_folder)
    principal = await engine.authorise("create", "", scope)
    wanted = FormRequest(
        kind,
        limits=_limits(engine.settings, options.max_size),
        place=_placing(targets, options, engine.settings),
        policy=FormPolicy.ALL,
        expected=checksums.all_digests(scope["headers"]),
        coding=coding,
        principal=principal,
        context=scope,
    )
    async with engine.receive_form(request.source(), wanted) as form:
        left_out = _left_out(form.refused)
        if left_out and not form.files:
            raise left_out[0].error
        texts, model = await validated(form, options)
        outcomes = await form.publish(
            lambda file: _target(targets, file.field).options.to is not None, notify=False
        )
        stored = {outcome.id: outcome.stored for outcome in outcomes if outcome.stored}
        head = RequestHead(scope)
        files = MultiDict(
            (field, upload_of(engine, file, stored.get(file.id), principal, head))
            for field, file in form.files.multi_items()
        )
        async with until_answered(verdict_of(scope), notifications(outcomes)):
            yield Form(
                texts,
                files,
                lists=options.lists,
                model=model,
                values=options.fields.values(model) if options.fields is not None else None,
                left_out=left_out,
            )


def check_head(scope: Mapping[str, Any], settings: Settings) -> tuple[bytes, str | None]:
    """The Content-Type of a form, and the content coding to decode. Raises UploadError when the
    request is not a form.
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


def _target(targets: Targets, field: str) -> Target:
    target = targets.get(field) or targets.get("*")
    if target is None:
        raise refuse(problem("file_forbidden", field, "No file is taken in this field"))
    return target


def _placing(targets: Targets, options: FormOptions, settings: Settings) -> Place:
    """The function that places each part of the form, in their order."""
    seen: set[str] = set()
    single = options.named - options.lists
    texts = options.fields.names if options.fields is not None else frozenset()

    def place(head: PartHead) -> Placement:
        if not head.is_file:
            return AsField()
        if head.name in texts:
            raise refuse(problem("string_type", head.name, "Send text in this field, not a file"))
        # First, as a hidden file is left out and does not count as one too many.
        placement = _place_file(head, _target(targets, head.name), settings)
        if head.name in seen and head.name in single:
            raise refuse(problem("too_many_files", head.name, "Send one file in this field"))
        seen.add(head.name)
        return placement

    return place


def _place_file(head: PartHead, target: Target, settings: Settings) -> AsFile:
    options, segments = target.options, target.segments
    folder = segments if target.is_folder else segments[:-1]
    name = None
    if not target.is_folder:
        name = segments[-1]
    elif options.to is not None:
        name = names.from_client_name(head.filename or "")
    conflict = options.conflict
    if conflict in (None, Conflict.AUTO):
        conflict = settings.on_conflict
    if conflict is None or conflict is Conflict.AUTO:
        conflict = Conflict.RENAME if target.is_folder else Conflict.REFUSE
    return AsFile(
        folder="/".join(folder),
        name=name,
        max_size=options.max_size,
        threshold=options.threshold,
        accept_types=options.types or settings.accept_types,
        conflict=conflict,
        wanted=(options.digest,) if options.digest else (),
    )


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


def upload_of(
    engine: Engine,
    file: FormFile,
    stored: Stored | None,
    principal: Principal,
    head: RequestHead | None = None,
) -> Upload:
    """A file of a form as an `Upload`: published when it is `stored`."""
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
        upload.set_published(stored)
    else:
        upload.set_body(file)
    return upload
