"""The application's callbacks, told in terms of `Upload`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from forebay.hooks.base import Arrival, Candidate, Completion, Deletion
from forebay.hooks.python import call, check_callable
from forebay.library.upload import RequestHead, Upload
from forebay.media_types import media_type_of

if TYPE_CHECKING:
    from forebay.engine.engine import Engine

Engines = Callable[[], "Engine"]


def head_of(context: Mapping[str, Any] | None) -> RequestHead | None:
    """The head of the request at hand; None where there is none."""
    return RequestHead(context) if context and "headers" in context else None


def verifier(function: Callable[[Upload], Any], engine: Engines) -> Callable[[Candidate], Any]:
    check_callable("on_verify", function)

    async def verify(candidate: Candidate) -> Any:
        upload = Upload(
            id=candidate.id,
            name=candidate.name,
            size=candidate.size,
            length=candidate.size,
            media_type=candidate.media_type,
            digests=candidate.digests,
            principal=candidate.principal,
            head=head_of(candidate.context),
            about=candidate.about,
            engine=engine(),
            reader=candidate.open,
        )
        upload.encoded_size = candidate.received
        return await call(function, upload)

    return verify


def completer(function: Callable[[Upload], Any], engine: Engines) -> Callable[[Completion], Any]:
    check_callable("on_complete", function)

    @functools.wraps(function)
    async def complete(completion: Completion) -> None:
        stored = completion.stored
        upload = Upload(
            id=completion.id,
            media_type=completion.media_type,
            principal=completion.principal,
            head=head_of(completion.context),
            about=completion.about,
            engine=engine(),
        )
        upload.published(stored)
        await call(function, upload)

    return complete


def watcher(function: Callable[[Upload, int], Any], engine: Engines) -> Callable[[Arrival], Any]:
    check_callable("on_progress", function)

    async def progress(arrival: Arrival) -> None:
        upload = Upload(
            id=arrival.id,
            name=arrival.name,
            size=arrival.received,
            length=arrival.length,
            media_type=arrival.media_type,
            principal=arrival.principal,
            head=head_of(arrival.context),
            about=arrival.about,
            engine=engine(),
        )
        await call(function, upload, arrival.received)

    return progress


def deleter(function: Callable[[Upload], Any], engine: Engines) -> Callable[[Deletion], Any]:
    check_callable("on_delete", function)

    async def delete(deletion: Deletion) -> None:
        file, scope = deletion.file, deletion.context
        upload = Upload(
            name=file.name,
            filename=file.name.rpartition("/")[2],
            size=file.size,
            length=file.size,
            media_type=media_type_of(file.name),
            principal=deletion.principal,
            head=RequestHead(scope) if scope.get("type") == "http" else None,
            engine=engine(),
        )
        await call(function, upload)

    return delete
