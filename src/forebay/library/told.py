"""The application's callbacks, told in terms of `Upload`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from forebay.hooks.base import Arrival, Candidate, Completion, Deletion
from forebay.hooks.python import call, check_callable
from forebay.library.upload import RequestHead, Upload
from forebay.media_types import media_type_of

if TYPE_CHECKING:
    from forebay.engine.engine import Engine

Engines = Callable[[], "Engine"]


def verifier(function: Callable[[Upload], Any], engine: Engines) -> Callable[[Candidate], Any]:
    check_callable("on_verify", function)

    async def verify(candidate: Candidate) -> Any:
        upload = Upload(
            id=candidate.id,
            name=candidate.name,
            filename=candidate.name.rpartition("/")[2],
            size=candidate.size,
            length=candidate.size,
            media_type=candidate.media_type,
            digests=candidate.digests,
            principal=candidate.principal,
            engine=engine(),
            reader=candidate.open,
        )
        return await call(function, upload)

    return verify


def completer(function: Callable[[Upload], Any], engine: Engines) -> Callable[[Completion], Any]:
    check_callable("on_complete", function)

    @functools.wraps(function)
    async def complete(completion: Completion) -> None:
        stored = completion.stored
        upload = Upload(
            id=completion.id,
            filename=stored.file.name.rpartition("/")[2],
            media_type=completion.media_type,
            principal=completion.principal,
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
            filename=arrival.name.rpartition("/")[2],
            size=arrival.received,
            length=arrival.length,
            media_type=arrival.media_type,
            principal=arrival.principal,
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
