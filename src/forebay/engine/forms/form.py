"""`Form`: a received form, with its fields and files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from forebay.engine.forms.parts import FormFile, MultiDict
from forebay.engine.forms.publish import FormPublication, Planned
from forebay.engine.forms.request import FormRequest
from forebay.engine.outbox.pending import PendingNotification, WholeUpload
from forebay.errors import UploadError
from forebay.model import FormPolicy, Receive, Stored
from forebay.protocol.multipart_parts import add_part_name
from forebay.protocol.names import is_hidden_name_error

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.outbox.outbox import Outbox


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file of a form: it has a `notification` or an `error`.

    `field` and `filename` are as the client sent them, not validated.
    """

    field: str
    filename: str | None
    media_type: str | None
    notification: PendingNotification | None = None
    error: UploadError | None = None
    id: str = ""
    """The id of the file, as hooks are told."""

    @property
    def stored(self) -> Stored | None:
        """The published file."""
        return self.notification.stored if self.notification is not None else None


def notifications(outcomes: Iterable[Outcome]) -> list[PendingNotification]:
    """The notifications of the files that were published."""
    return [outcome.notification for outcome in outcomes if outcome.notification is not None]


class Form:
    """A received form. Files that were not moved or published are removed when its block ends."""

    def __init__(
        self,
        engine: EngineContext,
        outbox: Outbox,
        request: FormRequest,
        policy: FormPolicy,
        fields: MultiDict[str],
        files: list[FormFile | Outcome],
        started: float,
    ) -> None:
        self.fields = fields
        """Text, by the names of the fields."""
        self.files = MultiDict((file.field, file) for file in files if isinstance(file, FormFile))
        """By the names of their fields; without those that were refused by themselves."""
        self._files = files
        self._engine = engine
        self._request = request
        self._policy = policy
        self._started = started
        texts = tuple(fields.multi_items())
        for _, file in self.files.multi_items():
            file.about = dataclasses.replace(file.about, fields=texts)
        self._publication = FormPublication(engine, outbox, policy)

    @property
    def refused(self) -> list[Outcome]:
        """The files that were refused while the others were received."""
        return [file for file in self._files if isinstance(file, Outcome)]

    async def publish(
        self, chosen: Callable[[FormFile], bool] | None = None, *, notify: bool = True
    ) -> list[Outcome]:
        """Publishes every file that has a name, in order, where its placement says; with `chosen`
        only files for which it is true. Without `notify` no callback is called: the caller decides
        about the `notifications`.

        With the policy `all`: raises the first UploadError, and then no file of the form is stored;
        but a hidden file is left out, and its outcome says so. With `each`: every file has its own
        outcome or error.

        Each file is authorised by its name when the form has a context, and verified (`on_verify`),
        before the first is published. Files that were moved before, and large text fields, are left
        alone.
        """
        outcomes: list[Outcome] = []
        planned: Planned = []
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
                outcomes[place] = dataclasses.replace(outcomes[place], notification=result)
        if notify:
            await _notify(outcomes)
        return outcomes

    def close(self) -> None:
        """Its files cannot be used from now on."""
        for _, file in self.files.multi_items():
            file.expire()

    async def _approve(self, file: FormFile) -> WholeUpload:
        """Authorises and verifies a file. Raises what refuses it."""
        request, how = self._request, file.publication
        if request.context is not None and request.authorises:
            await self._engine.authorise(
                "create",
                how.name,
                request.context,
                upload_id=file.id,
                about=lambda: file.about,
            )
        upload = WholeUpload(
            file.id,
            Receive(how.name, how.conflict, how.preconditions, file.media_type, about=file.about),
            request.principal,
            request.context,
            self._started,
            file.digests,
        )
        if self._engine.hooks.verifies:
            await self._engine.hooks.verify(upload.candidate(file.size, file.open))
        return upload


async def _notify(outcomes: Iterable[Outcome]) -> None:
    """Calls every callback, also when the request is cancelled during one."""
    pending = notifications(outcomes)
    try:
        while pending:
            await pending.pop(0).notify()
    finally:
        for notification in pending:
            notification.abandon()
