"""Where the application, and not the URL of a request, says that its file goes."""

from __future__ import annotations

import dataclasses
import secrets
from typing import Any

from forebay.http import scope_keys
from forebay.model import Conflict


@dataclasses.dataclass(frozen=True, slots=True)
class Destination:
    """What an application allows on one of its routes, in addition to the settings."""

    folder: tuple[str, ...] = ()
    """Valid names from the root down; () is the root itself."""
    max_size: int | None = None
    """Bytes."""
    types: tuple[str, ...] = ()
    """Media types, also such as `video/*`; () means those of `accept_types`."""
    conflict: Conflict | None = None
    """None: the `on_conflict` of the settings."""
    digest: str | None = None
    """The algorithm of a digest of the whole file to compute, or None."""

    @property
    def wanted(self) -> tuple[str, ...]:
        """Algorithms of the digests to compute."""
        return (self.digest,) if self.digest else ()

    def below(self, name: str) -> str:
        """The path of a valid name in the folder."""
        return "/".join((*self.folder, name))


ANYWHERE = Destination()


def destination_of(scope: dict[str, Any]) -> Destination:
    """The destination that the application has put in the scope, or `ANYWHERE`."""
    found: Destination = scope.get(scope_keys.DESTINATION, ANYWHERE)
    return found


def generated_name() -> str:
    """A random name for a file whose request gives none."""
    return f"upload-{secrets.token_hex(8)}"
