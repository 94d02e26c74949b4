"""The dialects of resumable uploads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from forebay.http.ietf import Ietf
from forebay.http.partial import Partial
from forebay.http.tus import Tus

if TYPE_CHECKING:
    from forebay.engine.engine import Engine
    from forebay.http.dialect import UploadDialect


def dialects(engine: Engine) -> Sequence[UploadDialect]:
    """All dialects, in the order in which a request is offered to them."""
    return (Tus(engine), Partial(engine), Ietf(engine))
