"""A `Forebay` in a temporary folder, for one test."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from forebay.hooks.base import Access
from forebay.library.application import Forebay
from forebay.model import Durability


@contextlib.contextmanager
def temporary_forebay(
    *, authorise: Callable[[Access], Any] | None = None, **settings: Any
) -> Iterator[Forebay]:
    """A `Forebay` in a temporary folder, which is removed after the block. `settings` as for
    `Forebay`; durability is `relaxed` by default.

        with temporary_forebay(max_size="1MB") as uploads:
            app = make_app(uploads)
    """
    with tempfile.TemporaryDirectory(prefix="forebay-") as folder:
        uploads = Forebay(folder, authorise=authorise, **{"durability": "relaxed", **settings})
        try:
            yield uploads
        finally:
            uploads.close()


@contextlib.contextmanager
def in_temporary_folder(uploads: Forebay, **changes: Any) -> Iterator[Path]:
    """Makes the `Forebay` of an application use an empty folder for the block, with `changes` of
    its settings. Yields the folder, which is removed at the end.

    Start the application within the block: it raises RuntimeError when it is running.

        with in_temporary_folder(uploads) as folder, Client(app) as client:
            ...
    """
    with tempfile.TemporaryDirectory(prefix="forebay-") as folder:
        settings = uploads.settings.replace(**changes) if changes else uploads.settings
        settings = dataclasses.replace(settings, dir=folder)
        if "durability" not in changes:
            settings = dataclasses.replace(settings, durability=Durability.RELAXED)
        with uploads.with_settings(settings):
            yield Path(folder).resolve()
