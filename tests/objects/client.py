"""Requests to the service, repeated until they are answered; what a refusal means."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from forebay.errors import StorageFailed, StorageUnavailable
from objects.service import NoAnswer, ObjectService, ServiceError

ATTEMPTS = 4
PAUSE = 0.002
"""Seconds before the second attempt; then twice as long each time."""


def unavailable() -> StorageUnavailable:
    return StorageUnavailable(retry_after=1)


def ask(call: Callable[..., Any], *args: Any, **more: Any) -> Any:
    """A request that may be repeated. Raises StorageUnavailable, ServiceError for what a repetition
    would not mend.
    """
    for pause in attempts():
        try:
            return call(*args, **more)
        except NoAnswer:
            pass
        except ServiceError as error:
            if error.code != "SlowDown":
                raise
        time.sleep(pause)
    raise unavailable()


def attempts() -> Iterator[float]:
    """Pauses, one after each attempt."""
    for attempt in range(ATTEMPTS):
        yield PAUSE * 2**attempt


def delete_quietly(service: ObjectService, keys: Any) -> None:
    """What cannot go now is swept later."""
    for key in keys:
        with contextlib.suppress(StorageUnavailable, ServiceError):
            ask(service.delete, key)


def lost(error: ServiceError) -> StorageFailed:
    return StorageFailed(f"The store has lost data of this upload ({error.code}).")
