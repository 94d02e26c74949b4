"""Forms on `/files/`: multipart/form-data to a folder, from curl, programs and plain HTML."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from forebay.engine.bodies.verdict import until_answered
from forebay.engine.forms.form import Outcome, notifications
from forebay.engine.forms.parts import AsField, AsFile, Dropped, Place, Placement
from forebay.engine.forms.request import FormRequest
from forebay.engine.transfer.decoding import offered
from forebay.errors import InvalidRequest, UploadError
from forebay.http import scope_keys
from forebay.http.answers import Headers, answer_error, json_answer
from forebay.http.form_pages import error_page, short, stored_page
from forebay.model import KiB, Stored
from forebay.protocol import form_request, names, unsupported_chunking
from forebay.protocol.multipart_head import PartHead
from forebay.protocol.multipart_parts import add_part_name
from forebay.protocol.negotiation import wants_page
from forebay.protocol.status import Answer, status_of

if TYPE_CHECKING:
    from forebay.config import Settings
    from forebay.engine.engine import Engine
    from forebay.engine.transfer.pump import Source
    from forebay.protocol.form_request import ReceiveForm

_HELD = 64 * KiB
"""Files of at most this size stay in memory until they are published: a descriptor for each of many
small files would cost more.
"""


async def store(
    engine: Engine,
    scope: dict[str, Any],
    source: Source,
    segments: list[str],
    mount: str,
) -> Answer:
    """Receives a form (`form_request.is_form`) and answers it. Raises UploadError, except for a
    browser, which gets a page.
    """
    headers: Headers = scope["headers"]
    page = wants_page(headers)
    try:
        command = form_request.command(
            segments,
            headers,
            on_conflict=engine.settings.on_conflict,
            decodable=offered(engine.settings),
        )
        outcomes = await _receive(engine, scope, source, command)
    except UploadError as error:
        if not page:
            raise
        return error_page(answer_error(error, scope), error)
    answer = _answer(outcomes, mount)
    return (
        stored_page(answer, outcomes, _url(mount, command.folder, "/"), mount) if page else answer
    )


async def _receive(
    engine: Engine, scope: dict[str, Any], source: Source, command: ReceiveForm
) -> list[Outcome]:
    principal = await engine.authorise("create", f"{command.folder}/", scope)
    request = FormRequest(
        command.content_type,
        place=placing(command, engine.settings, fields=_has_callbacks(engine)),
        expected=command.expected,
        coding=command.coding,
        principal=principal,
        context=scope,
    )
    async with engine.receive_form(source, request) as form:
        unsupported_chunking.check(form.fields.multi_items())
        outcomes = await form.publish(notify=False)
        async with until_answered(scope.get(scope_keys.VERDICT), notifications(outcomes)):
            pass
    if not outcomes:
        raise InvalidRequest(
            "The form holds no file. Choose one, or send it as a part with a file name "
            "(curl -F file=@NAME)."
        )
    if not any(outcome.stored for outcome in outcomes):
        first = outcomes[0]
        assert first.error is not None
        raise add_part_name(first.error, first.field, first.filename)
    return outcomes


def _has_callbacks(engine: Engine) -> bool:
    hooks = engine.hooks
    return hooks.verifies or hooks.completes or hooks.progresses


def placing(command: ReceiveForm, settings: Settings, *, fields: bool = False) -> Place:
    """Puts every file into the form's folder under its own name; drops most fields."""

    def place(head: PartHead) -> Placement:
        if not head.is_file:
            return AsField() if fields or head.name in unsupported_chunking.NAMES else Dropped()
        return AsFile(
            folder=command.folder,
            name=names.from_client_name(head.filename or ""),
            threshold=min(settings.memory_threshold, _HELD),
            accept_types=settings.accept_types,
            conflict=command.conflict,
            preconditions=command.preconditions,
            wanted=command.wanted,
        )

    return place


def _url(mount: str, name: str, slash: str = "") -> str:
    return f"{mount}/{names.quote_path(name)}{slash}" if name else f"{mount}/"


def _answer(outcomes: list[Outcome], mount: str) -> Answer:
    """201 when a file is new, 200 when all replaced others, 207 when some were refused."""
    entries = [_entry(outcome, mount) for outcome in outcomes]
    stored = [outcome.stored for outcome in outcomes if outcome.stored is not None]
    if len(stored) < len(outcomes):
        return json_answer(207, {"files": entries})
    status = 200 if all(one.replaced for one in stored) else 201
    if len(stored) > 1:
        return json_answer(status, {"files": entries})
    return json_answer(status, {**entries[0], "files": entries}, _fields(stored[0], mount))


def _fields(stored: Stored, mount: str) -> list[tuple[bytes, bytes]]:
    """The fields of the answer to a raw upload."""
    return [
        (b"location", _url(mount, stored.file.name).encode()),
        (b"etag", f'"{stored.file.tag}"'.encode()),
    ]


def _entry(outcome: Outcome, mount: str) -> dict[str, object]:
    """One file as in the answer to a raw upload, and the form field that it came in."""
    stored, error = outcome.stored, outcome.error
    if stored is None:
        assert error is not None
        return {
            "field": short(outcome.field),
            "filename": short(outcome.filename),
            "error": {"code": error.code, "status": status_of(error), "detail": error.message},
        }
    digests = {d.algorithm: base64.b64encode(d.value).decode() for d in stored.digests}
    return {
        "field": short(outcome.field),
        "name": stored.file.name,
        "size": stored.file.size,
        "type": short(outcome.media_type),
        "url": _url(mount, stored.file.name),
        "etag": f'"{stored.file.tag}"',
        **({"digest": digests} if digests else {}),
        "renamed": stored.renamed,
        "duration": round(stored.duration, 6),
    }
