"""The partial uploads that a final one is made of: which may be used, and by how many.

While a final upload is made of it, a finished part remembers that (`Extra.finals`), and is not
removed. Nobody holds a finished part, so these changes compare its version.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from forebay.engine.lifecycle import Event
from forebay.errors import InvalidRequest, NotFound, UploadBusy, WrongState
from forebay.model import UploadRecord, UploadState
from forebay.record import Extra

if TYPE_CHECKING:
    from forebay.engine.uploads.access import UploadAccess
    from forebay.sessions.base import Sessions

MOST_USES = 16
"""How often a part may stand in final uploads, in all of them together: what a short request
stores is bounded by that.
"""
_ENDED = (UploadState.FAILED, UploadState.CANCELLED)


def check_parts(ids: Sequence[str], parts: Mapping[str, UploadRecord], dialect: str) -> None:
    """Refuses parts that no final upload can be made of, before that has any effect.

    Raises InvalidRequest, NotFound.
    """
    uses = collections.Counter(ids)
    for part in parts.values():
        extra = Extra.of(part)
        if part.state in _ENDED:
            raise NotFound("An upload in the list has failed or was removed.")
        if part.dialect != dialect or not extra.partial:
            raise InvalidRequest("An upload in the list is not a partial one.")
        if len(extra.finals) + uses[part.id] > MOST_USES:
            raise InvalidRequest(
                f"An upload in the list would be used more than {MOST_USES} times; send it again."
            )


def total(parts: Iterable[UploadRecord]) -> int | None:
    """Bytes of all parts together, None while one of them has no length yet."""
    sizes = [part.length for part in parts]
    return None if None in sizes else sum(size for size in sizes if size is not None)


async def use_part(sessions: Sessions, part_id: str, final_id: str, uses: int) -> UploadRecord:
    """The part as it is now; from now on it stays for that final upload, if it is complete.

    Raises NotFound when it cannot be used.
    """
    while True:
        part = await sessions.load(part_id)
        if part.state in _ENDED:
            raise NotFound("A part has failed or was removed.")
        extra = Extra.of(part)
        if part.state is not UploadState.COMPLETE or final_id in extra.finals:
            return part
        if len(extra.finals) + uses > MOST_USES:
            raise NotFound(f"A part was used {MOST_USES} times already.")
        used = dataclasses.replace(extra, finals=(*extra.finals, *[final_id] * uses))
        with contextlib.suppress(WrongState):  # it changed meanwhile: look again
            return await sessions.update(part_id, version=part.version, extra=used.encode())


async def release_part(sessions: Sessions, access: UploadAccess) -> None:
    """Before a partial upload is removed: from now on no final upload can be made of it.

    Raises UploadBusy while one is being made.
    """
    for final_id in dict.fromkeys(Extra.of(access.record).finals):
        with contextlib.suppress(NotFound):
            if (await sessions.load(final_id)).is_unfinished:
                raise UploadBusy("A final upload is being made of this one.", retry_after=5)
    if access.record.state in _ENDED:
        return
    try:
        await access.change(Event.CANCELLED)
    except WrongState:  # somebody has just begun to use it
        raise UploadBusy(retry_after=1) from None
