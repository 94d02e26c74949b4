"""What a route of an application takes: where to, how large, of which types; judged once."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.decoding import offered
from forebay.engine.hashes import known
from forebay.errors import ConfigError, InvalidName, UnsupportedMediaType
from forebay.hooks.python import call
from forebay.http.destination import Destination
from forebay.library.upload import RequestHead
from forebay.model import NO_PRECONDITIONS, Conflict, Receive
from forebay.protocol import fields, names, raw

if TYPE_CHECKING:
    from forebay.config import Settings

To = str | Callable[[RequestHead], str | Awaitable[str]]


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """One body and where it goes. Checked when made: raises ConfigError.

    `to` is a folder with a slash at its end, in which the file gets the name that the client
    gives (a free one like it when that is taken), or the name of the file itself. A function
    of the request's head says it for each request, or raises what refuses it; a plain one runs
    in a thread. None: nowhere, it is only looked at.
    """

    to: To | None = None
    max_size: int | None = None
    types: tuple[str, ...] = ()
    conflict: Conflict | None = None
    digest: str | None = None
    threshold: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.to, str):
            folder_of(self.to)
        if self.max_size is not None and self.max_size < 1:
            raise ConfigError(f"max_size cannot be {self.max_size}. Give a size in bytes.")
        if self.digest is not None and self.digest not in known():
            raise ConfigError(
                f"digest cannot be {self.digest!r}. Give one of {', '.join(sorted(known()))}."
            )

    async def command(self, scope: Mapping[str, Any], settings: Settings) -> Receive:
        """What the head asks for, and that it may. Raises what refuses it."""
        headers = scope["headers"]
        media_type = fields.media_type(fields.first(headers, b"content-type") or b"")[0]
        if media_type.startswith("multipart/"):
            raise UnsupportedMediaType(
                "Send the file itself as the body; a form is not taken here."
            )
        segments, folder = await self.place(scope)
        conflict = self.conflict or settings.on_conflict
        command = raw.command(
            "POST" if folder else "PUT",
            segments,
            headers,
            {},  # a query is the application's own
            folder=folder,
            on_conflict=conflict,
            accept_types=self.types or settings.accept_types,
            generated=f"upload-{secrets.token_hex(8)}",
            # Digests are of the bytes as they came, and a handler wants that of its file.
            decodable=() if self.digest else offered(settings),
        )
        wanted = (self.digest,) if self.digest else ()
        # Conditions are about the route's own resource, which the application alone knows.
        return dataclasses.replace(
            command, preconditions=NO_PRECONDITIONS, wanted=wanted, max_size=self.max_size
        )

    async def place(self, scope: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
        """The judged path that a request's file goes to, and whether that is a folder."""
        to: Any = self.to
        if callable(to):
            to = await call(to, RequestHead(scope))
        if to is None:
            return (), True
        segments, folder = _split(to)
        if segments:
            names.judge_path(segments)
        return segments, folder

    @property
    def static_folder(self) -> str | None:
        """The folder that is known before any request; None when there is none."""
        return folder_of(self.to) if isinstance(self.to, str) else None

    async def destination(self, scope: Mapping[str, Any]) -> Destination:
        """The same for a resumable upload, whose `to` must be a folder."""
        segments, folder = await self.place(scope)
        if not folder:
            raise ConfigError("A resumable upload needs a folder: end `to` with a slash.")
        return Destination(segments, self.max_size, self.types, self.conflict)


def make_wish(
    to: To | Wish | None = None,
    *,
    max_size: int | None = None,
    types: Iterable[str] = (),
    conflict: Conflict | str | None = None,
    digest: str | None = None,
    threshold: int | None = None,
) -> Wish:
    """A wish from what a developer writes, or the one given. Raises ConfigError."""
    if isinstance(to, Wish):
        return to
    if isinstance(types, str):
        types = (types,)
    try:
        policy = None if conflict is None else Conflict(conflict)
    except ValueError:
        raise ConfigError(f"conflict cannot be {conflict!r}.") from None
    return Wish(to, max_size, tuple(kind.lower() for kind in types), policy, digest, threshold)


def _split(to: str) -> tuple[tuple[str, ...], bool]:
    folder = to == "" or to.endswith("/")
    path = to.removesuffix("/")
    return (tuple(path.split("/")) if path else ()), folder


def folder_of(to: str) -> str:
    """The folder of a destination, without a slash at its end. Raises ConfigError."""
    segments, folder = _split(to)
    try:
        if segments:
            names.judge_path(segments)
    except InvalidName as error:
        raise ConfigError(
            f"{to!r} is no destination: {error.message} Give a path under the folder of Forebay, "
            "such as 'videos/'."
        ) from None
    return "/".join(segments if folder else segments[:-1])


FileTo = To | Wish | None
Files = Mapping[str, FileTo] | To


@dataclasses.dataclass(frozen=True, slots=True)
class FormWish:
    """A form: where each of its files goes. `files` by the names of the fields, `*` for all
    others; without that, a file in another field is refused.
    """

    files: Mapping[str, Wish]
    required: tuple[str, ...] = ()
    max_size: int | None = None

    @property
    def static_folders(self) -> list[str]:
        return [folder for wish in self.files.values() if (folder := wish.static_folder)]


def make_form_wish(
    files: Files | FormWish,
    *,
    required: Iterable[str] = (),
    max_size: int | None = None,
    **wanted: Any,
) -> FormWish:
    """From what a developer writes (`wanted` is for every file), or the one given. Raises
    ConfigError.
    """
    if isinstance(files, FormWish):
        return files
    if isinstance(files, str) or callable(files):
        files = {"*": files}
    wishes = {
        field: to if isinstance(to, Wish) else make_wish(to, **wanted)
        for field, to in files.items()
    }
    needed = (required,) if isinstance(required, str) else tuple(required)
    return FormWish(wishes, needed, max_size)
