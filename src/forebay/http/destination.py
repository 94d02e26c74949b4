"""Where the files of a request go when the application says so, and not its URL alone."""

from __future__ import annotations

import dataclasses
from typing import Any

from forebay.http import scope_keys
from forebay.model import Conflict


@dataclasses.dataclass(frozen=True, slots=True)
class Destination:
    """What an application allows on one of its routes; the settings hold as well."""

    folder: tuple[str, ...] = ()
    """Judged names, from the root down; () is the root itself."""
    max_size: int | None = None
    """Bytes."""
    types: tuple[str, ...] = ()
    """Media types, `video/*` too; () takes what `accept_types` takes."""
    conflict: Conflict | None = None
    """None: as the settings say."""
    digest: str | None = None
    """An algorithm whose digest of the whole file is wanted."""

    @property
    def wanted(self) -> tuple[str, ...]:
        """The digests to compute."""
        return (self.digest,) if self.digest else ()

    def below(self, name: str) -> str:
        """The path of a judged name in the folder."""
        return "/".join((*self.folder, name))


ANYWHERE = Destination()


def destination_of(scope: dict[str, Any]) -> Destination:
    found: Destination = scope.get(scope_keys.DESTINATION, ANYWHERE)
    return found
