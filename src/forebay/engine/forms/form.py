"""Forms (multipart/form-data): received like any body, published together or one by one.

    source → Intake → FormSink ─┬─ fields in memory, within one budget
                                └─ files staged, or in memory while they are small

Nothing is published before the whole form is here, its digests were compared, and every file
was verified. So a connection that breaks leaves nothing, and a client may simply send again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from forebay.engine.bodies.verdict import Verdict, until_answered
from forebay.engine.forms.parts import FormFile, MultiDict, Place, by_kind
from forebay.engine.forms.publish import FormPublication
from forebay.engine.forms.sink import FormSink, ReceivedFile
from forebay.engine.transfer.decoding import decoding, room
from forebay.engine.transfer.metering import Meter
from forebay.engine.transfer.pump import NO_HASHING, BodyWriter, Hashing, Source
from forebay.engine.transfer.reporting import reported
from forebay.errors import DiskFull, TooLarge, UploadError
from forebay.hooks.base import Arrival, Candidate
from forebay.model import (
    NOTHING_SAID,
    About,
    Digest,
    FormPolicy,
    LargeField,
    Principal,
    Stored,
)
from forebay.protocol.form_type import boundary_of, charset_of
from forebay.protocol.multipart_limits import FormLimits
from forebay.protocol.multipart_parts import add_part_name
from forebay.protocol.names import is_hidden_name_error
from forebay.stores.base import Publication, Store

if TYPE_CHECKING:
    from forebay.config import Settings
    from forebay.engine.context import EngineContext
    from forebay.engine.outbox.outbox import Outbox
    from forebay.engine.transfer.progress import ProgressFeed

logger = logging.getLogger("forebay")

ANYBODY = Principal.anonymous


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file of a form: exactly one of `stored` and `error` is there.

    `field` and `filename` are as the client sent them, not judged.
    """

    field: str
    filename: str | None
    media_type: str | None
    stored: Stored | None = None
    error: UploadError | None = None
    id: str = ""
    """That of the file, in what hooks are told."""


class Form:
    """A received form. What was not moved or published is gone when its block ends."""

    def __init__(
        self,
        engine: EngineContext,
        outbox: Outbox,
        fields: MultiDict[str],
        files: list[FormFile | Outcome],
        *,
        policy: FormPolicy,
        principal: Principal,
        context: Mapping[str, Any] | None,
        started: float,
        authorises: bool = True,
    ) -> None:
        self.fields = fields
        """Text, by the names of the fields."""
        self.files = MultiDict((file.field, file) for file in files if isinstance(file, FormFile))
        """By the names of their fields; without those that were refused by themselves."""
        self._files = files
        self._policy = policy
        self._engine = engine
        self._principal = principal
        self._context = context
        self._authorises = authorises
        texts = tuple(fields.multi_items())
        self._abouts: dict[str, About] = {}
        for file in files:
            if isinstance(file, FormFile):
                file.about = dataclasses.replace(file.about, fields=texts)
                self._abouts[file.id] = file.about
        self._publication = FormPublication(engine, outbox, policy, principal, started)

    @property
    def refused(self) -> list[Outcome]:
        """The files that were refused by themselves while the form came."""
        return [file for file in self._files if isinstance(file, Outcome)]

    async def publish(
        self, chosen: Callable[[FormFile], bool] | None = None, *, tell: bool = True
    ) -> list[Outcome]:
        """Publishes every file that has a name, where its placement says, in their order; with
        `chosen` only those it is true of, without `tell` nobody is told yet (`Form.tell`).

        With the policy `all`: raises the first UploadError, and then no file of the form is
        stored; but a hidden file is left out, and its outcome says so. With `each`:
        every file has its outcome, or its error.

        Each is authorised by its name when the form has a context, then verified
        (`on_verify`), before the first is published; `on_complete` is told of each after it.
        Files moved before, and large text fields, which have no file name, are left alone.
        """
        outcomes: list[Outcome] = []
        planned: list[tuple[FormFile, Publication]] = []
        places: list[int] = []
        for file in self._files:
            if isinstance(file, Outcome):
                outcomes.append(file)
                continue
            if file.filename is None or file.closed or (chosen and not chosen(file)):
                continue
            outcome = Outcome(file.field, file.filename, file.media_type, id=file.id)
            try:
                planned.append((file, await self._approve(file)))
                places.append(len(outcomes))
            except UploadError as error:
                if self._policy is FormPolicy.ALL and not is_hidden_name_error(error):
                    add_part_name(error, file.field, file.filename)
                    raise
                outcome = dataclasses.replace(outcome, error=error)
            outcomes.append(outcome)
        results = await self._publication.publish(planned)
        for place, result in zip(places, results, strict=True):
            if isinstance(result, UploadError):
                outcomes[place] = dataclasses.replace(outcomes[place], error=result)
            else:
                outcomes[place] = dataclasses.replace(outcomes[place], stored=result)
        if tell:
            await self.tell(outcomes)
        return outcomes

    async def tell(self, outcomes: Iterable[Outcome]) -> None:
        """`on_complete`, for each file that was published."""
        for outcome in outcomes:
            if outcome.stored is not None:
                about = self._abouts.get(outcome.id, NOTHING_SAID)
                await self._publication.notify(outcome.id, outcome.stored, about, self._context)

    async def take_back(self, outcomes: Iterable[Outcome]) -> None:
        """Removes files just published, as nobody wants them any more; nobody is told."""
        for outcome in outcomes:
            if outcome.stored is not None:
                await self._publication.take_back(outcome.id, outcome.stored)

    def waiting(
        self, outcomes: Iterable[Outcome], verdict: Verdict | None
    ) -> contextlib.AbstractAsyncContextManager[None]:
        """For a block: `take_back` when that raises, or when the verdict says so; else `tell`.
        See `until_answered`.
        """
        self._publication.waits = verdict is not None
        tell = functools.partial(self.tell, outcomes)
        return until_answered(verdict, tell, functools.partial(self.take_back, outcomes))

    async def close(self) -> None:
        """Its files cannot be used any more."""
        for _, file in self.files.multi_items():
            file.expire()
        await self._publication.close()

    async def _approve(self, file: FormFile) -> Publication:
        how = file.publication
        engine = self._engine
        if self._context is not None and self._authorises:
            await engine.authorise(
                "create",
                how.name,
                self._context,
                upload_id=file.id,
                about=lambda: file.about,
            )
        if engine.hooks.verifies:
            await engine.hooks.verify(
                Candidate(
                    how.name,
                    file.size,
                    file.media_type,
                    file.digests,
                    self._principal,
                    file.open,
                    file.id,
                    file.about,
                    self._context,
                )
            )
        return how


class FormArguments(TypedDict, total=False):
    """What `receive_form` may be given by name."""

    limits: FormLimits | None
    large_fields: LargeField | None
    place: Place
    empty_inputs: bool
    policy: FormPolicy | None
    expected: tuple[Digest, ...]
    coding: str | None
    principal: Principal
    context: Mapping[str, Any] | None
    authorises: bool
    progress: ProgressFeed | None


@contextlib.asynccontextmanager
async def receive_form(
    engine: EngineContext,
    outbox: Outbox,
    source: Source,
    content_type: bytes,
    *,
    limits: FormLimits | None = None,
    large_fields: LargeField | None = None,
    place: Place = by_kind,
    empty_inputs: bool = False,
    policy: FormPolicy | None = None,
    expected: tuple[Digest, ...] = (),
    coding: str | None = None,
    principal: Principal = ANYBODY,
    context: Mapping[str, Any] | None = None,
    authorises: bool = True,
    progress: ProgressFeed | None = None,
) -> AsyncIterator[Form]:
    """Takes a whole form; what is neither moved nor published is gone when the block ends.

    Args:
        content_type: the field of the request; it names the boundary.
        limits, large_fields, policy: the settings' when left out.
        place: what becomes of each part; without it, all that has a file name is a file.
        empty_inputs: a file input in which nobody chose a file is a file too, an empty one.
        expected: digests of the whole body as it came, compared before the block begins.
        coding: a content coding to take off the body.
        context: of the request at hand, for callbacks.
        authorises: with a context `Form.publish` authorises each file by its name.

    Raises an UploadError: MalformedBody, IncompleteBody, TooLarge, TooManyUploads, what
    `place` and the store raise. Then nothing is kept.
    """
    started = time.perf_counter()
    settings = engine.settings
    boundary = boundary_of(content_type)
    limits = limits or limits_of(settings)
    policy = policy or settings.form_policy
    _check_length(engine, source, limits)
    engine.admission.enter()
    run = engine.workers.run
    try:
        if (source.length or 0) > settings.memory_threshold:
            await run(_check_room, engine.store, source.length)
        sink = FormSink(
            boundary,
            limits,
            charset=charset_of(content_type),
            large=large_fields or settings.form_large_fields,
            place=place,
            empty_inputs=empty_inputs,
            stage=engine.store.stage,
            check=engine.store.check_target,
            budget=engine.budget,
            threshold=settings.memory_threshold,
            each=policy is FormPolicy.EACH,
        )
        try:
            hashing = Hashing(sorted({d.algorithm for d in expected})) if expected else NO_HASHING
            kind = content_type.decode("latin-1")
            about = Arrival(
                secrets.token_urlsafe(16),
                "",
                source.length,
                kind,
                principal,
                about=About(length=source.length, media_type=kind),
                context=context,
            )
            with room(engine.budget, coding):
                outer = None
                if coding is not None:
                    outer = decoding(sink, coding, settings, limits.max_total)
                writer = BodyWriter(outer or sink, hashing=hashing, meter=Meter(sink))
                async with reported(engine.hooks, about, progress, now=sink.about) as feed:
                    await engine.pump(source, writer, progress=feed)
                if outer is not None:
                    outer.finish()
            sink.finish()
            hashing.verify(expected)
            form = Form(
                engine,
                outbox,
                sink.fields,
                [_file(engine, file) for file in sink.files],
                policy=policy,
                principal=principal,
                context=context,
                started=started,
                authorises=authorises,
            )
            try:
                yield form
            finally:
                await form.close()
        finally:
            if sink.on_disk:
                await run(sink.discard)
            sink.discard()
    finally:
        engine.admission.leave()


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


def _check_length(engine: EngineContext, source: Source, limits: FormLimits) -> None:
    """Raises LengthRequired or TooLarge."""
    engine.admission.check_length(source.length, None)
    if limits.max_total is not None and (source.length or 0) > limits.max_total:
        raise TooLarge(
            f"The form has {source.length} bytes; at most {limits.max_total} are taken "
            "(--form-max-size).",
            limit=limits.max_total,
        )


def _check_room(store: Store, length: int) -> None:
    """In a thread: refuses at once what cannot fit; the files reserve as they grow."""
    free = store.space().free
    if free - length < store.min_free:
        raise DiskFull(free=free)


def _file(engine: EngineContext, file: ReceivedFile) -> FormFile | Outcome:
    if file.error is not None:
        head = file.head
        return Outcome(head.name, head.filename, head.media_type, error=file.error)
    return FormFile(
        file.spool,
        file.size,
        head=file.head,
        placement=file.placement,
        digests=file.hashing.digests(file.placement.wanted),
        store=engine.store,
        workers=engine.workers,
    )
