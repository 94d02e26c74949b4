"""Taking back a file that was just published."""

from __future__ import annotations

import logging

from forebay.conditions import NO_PRECONDITIONS, EntityTag, Preconditions
from forebay.errors import NotFound, PreconditionFailed, UploadError
from forebay.model import Stored
from forebay.stores.base import Published, Store

logger = logging.getLogger("forebay")


def withdraw(store: Store, published: Published | Stored) -> None:
    """In a thread: removes the file if it is still the same one, even if it was changed meanwhile.

    A file that replaced another stays, as that one is gone. Raises nothing: a file that could not
    be removed is logged.
    """
    name = published.file.name
    if published.replaced:
        logger.warning("%r replaced a file and stays, though it is not wanted any more", name)
        return
    try:
        unchanged = Preconditions(if_match=(EntityTag(published.file.tag),))
        identity = published.file.identity
        store.delete(name, NO_PRECONDITIONS if identity else unchanged, identity=identity)
    except (NotFound, PreconditionFailed):
        pass  # somebody else removed or replaced it meanwhile
    except UploadError:
        logger.exception("%r could not be taken back", name)
