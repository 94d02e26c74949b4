"""The options of a route that takes an upload or a form: destination, sizes, types.

They are checked once, when they are made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from forebay.conditions import NO_PRECONDITIONS
from forebay.engine.transfer.decoding import offered
from forebay.engine.transfer.hashes import known
from forebay.errors import ConfigError, InvalidName
from forebay.hooks.identity import refused
from forebay.hooks.python import call, check_callable
from forebay.http.destination import Destination, generated_name
from forebay.library.form_fields import TypedFields, make_fields
from forebay.library.upload import CreationHead, RequestHead
from forebay.model import Conflict, Receive
from forebay.protocol import content_type, names, raw
from forebay.units import parse_size

if TYPE_CHECKING:
    from forebay.config import Settings

Bytes = int | str
"""A size: a number of bytes, or text such as "2GB"."""
To = str | Callable[[RequestHead], str | Awaitable[str]]
"""A destination: a path under Forebay's folder, or a function of the request's head that returns
one.
"""


class UploadArguments(TypedDict, total=False):
    """The arguments of `receive` besides `to`."""

    max_size: Bytes | None
    types: Iterable[str]
    conflict: Conflict | str | None
    digest: str | None
    threshold: Bytes | None


class FormArguments(UploadArguments, total=False):
    """The arguments of `form` besides `files` and `fields`."""

    required: Iterable[str]


@dataclasses.dataclass(frozen=True, slots=True)
class UploadOptions:
    """The options of one upload. Raises ConfigError for a value that can never work."""

    to: To | None = None
    """A folder with a slash at its end, or the path of one file. In a folder the file gets the
    name that the client gives, or a free name like it. A function returns one of these for each
    request ("./" is the root), or raises to refuse it; a plain function runs in a thread. None: the
    upload is not published.
    """
    max_size: int | None = None
    """Bytes; None: only `settings.max_size` limits it."""
    types: tuple[str, ...] = ()
    """Media types that are accepted, in lower case; empty: those of `settings.accept_types`."""
    conflict: Conflict | None = None
    """When the name is taken; None: as `settings.on_conflict` says."""
    digest: str | None = None
    """An algorithm to compute, such as `sha256`."""
    threshold: int | None = None
    """Bytes up to which a body without destination may stay in memory; None: the setting."""

    def __post_init__(self) -> None:
        if isinstance(self.to, str):
            folder_of(self.to)
        elif callable(self.to):
            check_callable("to", self.to)
        elif self.to is not None:
            raise ConfigError(
                f"{self.to!r} is not a destination. Give a path under Forebay's folder as text, "
                "such as 'videos/', or a function that returns one."
            )
        for kind in self.types:
            if "/" not in kind:
                raise ConfigError(
                    f"{kind!r} is not a media type. Give one such as 'video/mp4' or 'video/*'."
                )
        if self.digest is not None and self.digest not in known():
            raise ConfigError(
                f"digest cannot be {self.digest!r}. Give one of {', '.join(sorted(known()))}."
            )

    async def command(self, scope: Mapping[str, Any], settings: Settings) -> Receive:
        """The command for a request with this head. Raises UploadError when it is refused."""
        headers = scope["headers"]
        content_type.file_type(headers, "Send the file itself as the body; this is no form.")
        segments, folder = await self.place(scope)
        conflict = self.conflict or settings.on_conflict
        command = raw.command(
            "POST" if folder else "PUT",
            segments,
            headers,
            {},  # the query belongs to the application
            on_conflict=conflict,
            accept_types=self.types or settings.accept_types,
            generated=generated_name(),
            # Digests are of the bytes as received; a handler wants the digest of its file.
            decodable=() if self.digest else offered(settings),
            sent=scope["method"],
        )
        wanted = (self.digest,) if self.digest else ()
        # Preconditions are about the route's own resource, which only the application knows.
        return dataclasses.replace(
            command, preconditions=NO_PRECONDITIONS, wanted=wanted, max_size=self.max_size
        )

    async def place(
        self, scope: Mapping[str, Any], head: type[RequestHead] = RequestHead
    ) -> tuple[tuple[str, ...], bool]:
        """The path of a request's destination, checked, and whether it is a folder."""
        to: Any = self.to
        if callable(to):
            to = await call(to, head(scope))
            if not isinstance(to, str) or not to:
                # A mistake of the application: it means neither "not published" nor the root.
                raise refused(
                    "The function for `to`",
                    to,
                    "Return a path under Forebay's folder, such as 'videos/', or './' for "
                    "that folder itself.",
                )
            to = str.__str__(to)
        if to is None:
            return (), True
        segments, folder = _split(to)
        if segments:
            names.validate_path(segments)
        return segments, folder

    @property
    def doubtful_name(self) -> str | None:
        """`to` where it names a file but looks like a folder without its slash; else None."""
        to = self.to if isinstance(self.to, str) else ""
        name = to.rpartition("/")[2]
        return to if name and "." not in name else None

    @property
    def static_folder(self) -> str | None:
        """The folder that is known before any request; None when there is none, or when `to` is a
        function.
        """
        return folder_of(self.to) if isinstance(self.to, str) else None

    async def destination(self, scope: Mapping[str, Any]) -> Destination:
        """The destination of a resumable upload, whose `to` must be a folder, else ConfigError."""
        segments, folder = await self.place(scope, CreationHead)
        if not folder or self.to is None:
            raise ConfigError("A resumable upload needs a folder: end `to` with a slash.")
        return Destination(segments, self.max_size, self.types, self.conflict, self.digest)


def make_options(
    to: To | UploadOptions | None = None,
    *,
    max_size: Bytes | None = None,
    types: Iterable[str] = (),
    conflict: Conflict | str | None = None,
    digest: str | None = None,
    threshold: Bytes | None = None,
) -> UploadOptions:
    """From the arguments of `Forebay.options`; UploadOptions are returned as they are.

    Raises ConfigError.
    """
    if isinstance(to, UploadOptions):
        return to
    if isinstance(types, str):
        types = (types,)
    try:
        policy = None if conflict is None else Conflict(conflict)
    except ValueError:
        raise ConfigError(
            f"conflict cannot be {conflict!r}. Give one of {', '.join(Conflict)}."
        ) from None
    return UploadOptions(
        to,
        size_of("max_size", max_size, least=1),
        tuple(kind.lower() for kind in types),
        policy,
        digest,
        size_of("threshold", threshold),
    )


def size_of(name: str, value: Bytes | None, *, least: int = 0) -> int | None:
    """A size in bytes, as number or text, as a number. Raises ConfigError that calls it `name`."""
    try:
        size = parse_size(value) if isinstance(value, str) else value
        if size is None or (isinstance(size, int) and size >= least):
            return size
        why = (
            "it is not a whole number of bytes" if not isinstance(size, int) else "it is too small"
        )
    except ValueError as error:
        why = str(error)
    raise ConfigError(f"{name} cannot be {value!r}: {why}. Give bytes, or text such as '2GB'.")


def _split(to: str) -> tuple[tuple[str, ...], bool]:
    if to in ("", "./"):
        return (), True
    return tuple(to.removesuffix("/").split("/")), to.endswith("/")


def folder_of(to: str) -> str:
    """The folder of a destination, without a slash at its end. Raises ConfigError."""
    segments, folder = _split(to)
    try:
        if segments:
            names.validate_path(segments)
    except InvalidName as error:
        raise ConfigError(
            f"{to!r} is not a destination: {error.message} Give a path under Forebay's folder, "
            "such as 'videos/'."
        ) from None
    return "/".join(segments if folder else segments[:-1])


FileTo = To | UploadOptions | None
"""The destination of one field's files."""
Files = Mapping[str, FileTo | Sequence[FileTo]] | To
"""The destinations of a form's files, by field; or one for all of them."""


@dataclasses.dataclass(frozen=True, slots=True)
class FormOptions:
    """The options of one form."""

    files: Mapping[str, UploadOptions]
    """By the names of the fields; `*` is for all other fields. Without `*`, a file in another
    field is refused.
    """
    required: tuple[str, ...] = ()
    """Fields that must be there and not be empty."""
    max_size: int | None = None
    """Bytes of the whole form; None: only `settings.form_max_size` limits it."""
    lists: frozenset[str] = frozenset()
    """The fields of `files` that take any number of files; the others take one."""
    fields: TypedFields | None = None
    """The text fields that have types."""

    @property
    def named(self) -> frozenset[str]:
        """The file fields that have a name of their own: without `*`."""
        return frozenset(self.files) - {"*"}


def make_form_options(
    files: Files | FormOptions,
    *,
    fields: Any = None,
    required: Iterable[str] = (),
    max_size: Bytes | None = None,
    **options: Any,
) -> FormOptions:
    """From the arguments of `Forebay.form_options`, of which `options` are for every file;
    FormOptions are returned as they are. Raises ConfigError.
    """
    if isinstance(files, FormOptions):
        return files
    if isinstance(files, str) or callable(files):
        files = {"*": files}
    if not isinstance(files, Mapping):
        raise ConfigError(
            f"files cannot be {files!r}. Give a folder for all files, or one for each field, "
            "such as {'clip': 'videos/'}."
        )
    lists = frozenset(field for field, to in files.items() if isinstance(to, list | tuple))
    by_field = {}
    for field, to in files.items():
        one: Any = _only(field, to) if isinstance(to, list | tuple) else to
        by_field[field] = one if isinstance(one, UploadOptions) else make_options(one, **options)
    typed = make_fields(fields)
    both = typed.names & by_field.keys() if typed is not None else ()
    if both:
        raise ConfigError(f"The field {min(both)!r} is declared as a file and as text.")
    needed = (required,) if isinstance(required, str) else tuple(required)
    size = size_of("max_size", max_size, least=1)
    return FormOptions(by_field, needed, size, lists - {"*"}, typed)


def _only(field: str, to: Sequence[Any]) -> Any:
    if len(to) != 1:
        raise ConfigError(
            f"files[{field!r}] cannot be {to!r}. Several files of one field go to one place: "
            "give a list that holds it, such as ['videos/']."
        )
    return to[0]
