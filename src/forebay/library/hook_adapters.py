"""Adapts callbacks of the application, which take an `Upload`, to the hooks of the engine."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from forebay.hooks.base import Arrival, Candidate, Completion, Deletion
from forebay.hooks.python import call, check_callable
from forebay.library.upload import RequestHead, Upload, upload_of_file

if TYPE_CHECKING:
    from forebay.engine.engine import Engine

GetEngine = Callable[[], "Engine"]
"""Returns the engine of the current run."""


def verifier(function: Callable[[Upload], Any], engine: GetEngine) -> Callable[[Candidate], Any]:
    """The hook for an `on_verify` of the application. Raises ConfigError."""
    check_callable("on_verify", function)

    async def verify(candidate: Candidate) -> Any:
        upload = _upload_of(
            candidate,
            engine(),
            name=candidate.name,
            size=candidate.size,
            length=candidate.size,
            digests=candidate.digests,
            reader=candidate.open,
        )
        upload.encoded_size = candidate.received
        return await call(function, upload)

    return verify


def completer(function: Callable[[Upload], Any], engine: GetEngine) -> Callable[[Completion], Any]:
    """The hook for an `on_complete` of the application. Raises ConfigError."""
    check_callable("on_complete", function)

    @functools.wraps(function)
    async def complete(completion: Completion) -> None:
        upload = _upload_of(completion, engine())
        upload.set_published(completion.stored)
        await call(function, upload)

    return complete


def watcher(function: Callable[[Upload, int], Any], engine: GetEngine) -> Callable[[Arrival], Any]:
    """The hook for an `on_progress` of the application. Raises ConfigError."""
    check_callable("on_progress", function)

    async def progress(arrival: Arrival) -> None:
        upload = _upload_of(
            arrival, engine(), name=arrival.name, size=arrival.received, length=arrival.length
        )
        await call(function, upload, arrival.received)

    return progress


def deleter(function: Callable[[Upload], Any], engine: GetEngine) -> Callable[[Deletion], Any]:
    """The hook for an `on_delete` of the application. Raises ConfigError."""
    check_callable("on_delete", function)

    async def delete(deletion: Deletion) -> None:
        upload = upload_of_file(engine(), deletion.file, deletion.principal)
        upload.head = _head_of(deletion.context)
        await call(function, upload)

    return delete


def _upload_of(event: Candidate | Arrival | Completion, engine: Engine, **more: Any) -> Upload:
    return Upload(
        id=event.id,
        media_type=event.media_type,
        principal=event.principal,
        head=_head_of(event.context),
        about=event.about,
        engine=engine,
        **more,
    )


def _head_of(context: Mapping[str, Any] | None) -> RequestHead | None:
    """The head of the current request; None when there is none."""
    return RequestHead(context) if context and "headers" in context else None
