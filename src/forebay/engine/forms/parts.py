"""The parts of a form: rules that place them, and what a form has of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

from forebay.conditions import NO_PRECONDITIONS, Preconditions
from forebay.engine.bodies.body import Body
from forebay.engine.ids import new_id
from forebay.engine.transfer.spool import Spool
from forebay.errors import InvalidName
from forebay.model import About, Conflict, Digest
from forebay.protocol.multipart_head import PartHead
from forebay.protocol.names import display_filename, from_client_name, validate_path
from forebay.stores.base import Publication, Store

if TYPE_CHECKING:
    from forebay.engine.transfer.workers import Workers

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class AsField:
    """The part is text in memory. `max_size` in bytes; None for the limits of the form alone."""

    max_size: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Dropped:
    """The part is read, counted against the limits, and dropped."""


@dataclasses.dataclass(frozen=True, slots=True)
class AsFile:
    """The part is a file.

    `folder` is a validated path below the root of the store, "" for the root, and `name` a
    validated file name; None for the name that the client sent. Sizes are bytes. Content up to
    `threshold` may stay in memory (None: `--memory-threshold`). `accept_types`: media types such as
    `image/*`; empty for all. `wanted`: algorithms of digests to compute.
    """

    folder: str = ""
    name: str | None = None
    max_size: int | None = None
    threshold: int | None = None
    accept_types: tuple[str, ...] = ()
    conflict: Conflict = Conflict.RENAME
    preconditions: Preconditions = NO_PRECONDITIONS
    wanted: tuple[str, ...] = ()


Placement = AsField | AsFile | Dropped
Place = Callable[[PartHead], Placement]
"""Places one part when its head is known. Runs in a worker thread. Raises an UploadError to refuse
the whole form.
"""


def by_kind(head: PartHead) -> Placement:
    """A part with a file name is a file in the root folder, any other a field."""
    return AsFile() if head.is_file else AsField()


class MultiDict(Mapping[str, T], Generic[T]):
    """Names and values in the order they came; a name may come more than once.

    As a mapping it has the first value of each name, like `FormData.get` of browsers.
    """

    def __init__(self, items: Iterable[tuple[str, T]] = ()) -> None:
        self._items = list(items)
        self._first: dict[str, T] = {}
        for name, value in self._items:
            self._first.setdefault(name, value)

    def __getitem__(self, name: str) -> T:
        return self._first[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)

    def __len__(self) -> int:
        return len(self._first)

    def getall(self, name: str) -> list[T]:
        """Every value of that name, in order; empty when there is none."""
        return [value for key, value in self._items if key == name]

    def multi_items(self) -> list[tuple[str, T]]:
        """Every pair, in order."""
        return list(self._items)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._items!r})"


class FormFile(Body):
    """One file of a form: a `Body` that also has what the form says of it.

    Removed when the block of the form ends, unless it was moved or published.
    """

    def __init__(
        self,
        spool: Spool,
        size: int,
        *,
        head: PartHead,
        placement: AsFile,
        digests: tuple[Digest, ...],
        store: Store,
        workers: Workers,
    ) -> None:
        super().__init__(
            spool,
            size,
            store=store,
            workers=workers,
            media_type=head.media_type,
            digests=digests,
        )
        self.id = new_id()
        """The id of the file in everything that hooks are told."""
        self.headers = head.headers
        """The header of its part, the names in lower case."""
        self.field = head.name
        """The name of the form's field."""
        self.filename = head.filename
        """The file name as the client sent it, or a made one where it sent none; None for a large
        text field. Not validated.
        """
        self.name = placement.name or client_name(head.filename)
        """A file name that can be stored; None when the client did not send one."""
        self.placement = placement

        self.about = About(display_filename(head.filename), length=size, media_type=head.media_type)
        """What callbacks are told; with the fields of the form once it is complete."""

    @property
    def publication(self) -> Publication:
        """Where the rules of the form put it. Raises InvalidName when it has no name that can be
        stored.
        """
        if self.name is None:
            if self.filename:
                from_client_name(self.filename)  # says what is wrong with it
            raise InvalidName(f"The file in the field {self.field[:80]!r} has no name.")
        folder = self.placement.folder
        segments = [*folder.split("/"), self.name] if folder else [self.name]
        return Publication(
            validate_path(segments), self.placement.conflict, self.placement.preconditions
        )

    @property
    def closed(self) -> bool:
        """Whether it was moved or published, or its form's block has ended."""
        return self._closed

    def expire(self) -> None:
        """It cannot be used from now on; the form removes its content."""
        self._closed = True

    def __repr__(self) -> str:
        return f"<FormFile {self.field!r} {self.filename!r} {self.size} bytes>"


def client_name(filename: str | None) -> str | None:
    """The last component of a client's file name, if it can be stored."""
    if not filename:
        return None
    try:
        return from_client_name(filename)
    except InvalidName:
        return None
