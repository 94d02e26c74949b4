"""Frozen values that the layers pass to each other. No behaviour beyond their own fields.

Sizes, offsets and lengths are in bytes. Times are seconds since the epoch (float) unless the
name ends in `_ns`. Durations are in seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar

from forebay.conditions import NO_PRECONDITIONS, Preconditions

KB, MB, GB, TB = 10**3, 10**6, 10**9, 10**12
KiB, MiB, GiB, TiB = 2**10, 2**20, 2**30, 2**40

MAX_OFFSET = 2**63 - 1
"""Bytes: offsets are signed 64-bit numbers on every filesystem."""

SETTINGS_FILE = "forebay.toml"
RESERVED_NAMES = frozenset({SETTINGS_FILE, "web.config", "desktop.ini", "autorun.inf"})
"""Names, in lower case, that Forebay (the first one), web servers or desktop file managers read as
their settings, and that do not begin with a dot. No client may store them.
"""


class Durability(StrEnum):
    """What an acknowledgement survives: `relaxed` a killed process, `strict` a power loss."""

    STRICT = "strict"
    RELAXED = "relaxed"


class Conflict(StrEnum):
    """What happens when a file with the requested name exists.

    `auto` is the default of `--on-conflict`: a PUT is refused (it must not store under another
    name than its URL), a POST is renamed.
    """

    AUTO = "auto"
    RENAME = "rename"
    REFUSE = "refuse"
    REPLACE = "replace"


class FormPolicy(StrEnum):
    """How the files of one form are published: `all` of them or none, or `each` by itself."""

    ALL = "all"
    EACH = "each"


class LargeField(StrEnum):
    """What happens to a text field that is larger than `--form-max-field-size`."""

    REFUSE = "refuse"
    MEMORY = "memory"
    DISK = "disk"


@dataclasses.dataclass(frozen=True, slots=True)
class Digest:
    """A digest. The name of the algorithm is written as in RFC 9530 (`sha-256`)."""

    algorithm: str
    value: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class FileInfo:
    """A published file. `name` is its path below the root, with `/` between folders.

    `size` is the size of its content, also when it is stored compressed.
    """

    name: str
    size: int
    mtime_ns: int
    tag: str
    """The opaque part of a strong entity tag; it changes with the content."""
    is_folder: bool = False
    stored_size: int | None = None
    """Bytes on the disk when the file is stored compressed; None when it is not."""
    attribute: bytes = dataclasses.field(default=b"", compare=False, repr=False)
    """What was stored beside the content of the file, for a store that is built on another."""
    identity: str = dataclasses.field(default="", compare=False)
    """Tells a file that was just published from every other file, also after it was touched, linked
    or written; "" when this was not asked for. (`tag` tells contents apart, not files.)
    """


Metadata = Mapping[str, "str | bytes"]
"""Values by key; text when the value is UTF-8."""
_NO_METADATA: Metadata = MappingProxyType({})


@dataclasses.dataclass(frozen=True, slots=True)
class About:
    """What a client says about a file. Nothing of it is checked or trusted."""

    filename: str | None = None
    """The client's name for it: the last part of a path, without control characters. It may be
    hidden, reserved or too long, and the file may get another name.
    """
    metadata: Metadata = dataclasses.field(default_factory=lambda: _NO_METADATA)
    """The decoded Upload-Metadata of tus."""
    fields: tuple[tuple[str, str], ...] = ()
    """The text fields of its form, in the order they were sent."""
    length: int | None = None
    """Its size in bytes; None when the client did not say."""
    media_type: str | None = None


NOTHING_SAID = About()


@dataclasses.dataclass(frozen=True, slots=True)
class Receive:
    """Command: receive one whole body and publish it as `name`, a valid path below the root."""

    name: str
    conflict: Conflict
    preconditions: Preconditions = NO_PRECONDITIONS
    media_type: str | None = None
    expected: tuple[Digest, ...] = ()
    """Digests that must match before publication."""
    wanted: tuple[str, ...] = ()
    """Algorithms of the digests to answer with."""
    max_size: int | None = None
    """A limit in bytes beside that of the settings; the smaller one applies."""
    coding: str | None = None
    """The content coding to decode. Sizes and digests are those of the encoded body, too."""
    about: About = NOTHING_SAID


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """The result of a finished upload: the published file."""

    file: FileInfo
    renamed: bool
    """It has another name than the one asked for, which was taken."""
    replaced: bool
    """It took the place of an older file."""
    digests: tuple[Digest, ...] = ()
    duration: float = 0.0
    """Seconds that the upload took."""
    received: int | None = None
    """Bytes of the encoded body, when it was decoded; None when it was stored as it came."""


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload got."""

    received: int
    """Bytes."""
    total: int | None
    """Bytes of the whole upload; None when it is not known."""
    rate: float
    """Bytes per second over the last moments."""


@dataclasses.dataclass(frozen=True, slots=True)
class Principal:
    """The user or program that sends a request. An upload belongs to the `id` that created it.

    `Principal.anonymous` stands for all clients without a name; they share their uploads.
    """

    id: str = ""

    anonymous: ClassVar[Principal]


Principal.anonymous = Principal()


class UploadState(StrEnum):
    """The states of a resumable upload. `docs/architecture.md` has the diagram."""

    OPEN = "open"  # accepts bytes
    COMPLETING = "completing"  # has all bytes; verified and published next, also after a crash
    COMPLETE = "complete"  # published
    FAILED = "failed"  # refused or unusable; nothing was published
    CANCELLED = "cancelled"  # ended by the client


UNFINISHED = (UploadState.OPEN, UploadState.COMPLETING)
"""States in which an upload may still become a file."""


@dataclasses.dataclass(frozen=True, slots=True)
class CreateUpload:
    """Command: create a resumable upload that will be published as `name`."""

    dialect: str
    name: str
    conflict: Conflict
    length: int | None = None
    """Bytes of the whole upload; None when it is not known yet."""
    media_type: str | None = None
    metadata: bytes = b""
    """The metadata of the dialect, byte for byte as the client sent it."""
    expected: tuple[Digest, ...] = ()
    """Digests of the whole file, which must match before publication."""
    wanted: tuple[str, ...] = ()
    """Algorithms of the digests to answer with."""
    max_size: int | None = None
    """A limit in bytes beside that of the settings; the smaller one applies."""
    preconditions: Preconditions = NO_PRECONDITIONS
    """Checked now and again at publication."""
    partial: bool = False
    """It is a part of a later concatenation: it becomes COMPLETE but is never published."""
    parts: tuple[str, ...] = ()
    """Ids of the partial uploads it is concatenated from, in this order; it accepts no bytes."""
    extra: tuple[tuple[str, str], ...] = ()
    """Names and values that the dialect needs later; stored in `UploadRecord.extra`."""
    by_name: bool = False
    """Clients find it by its name: there is one unfinished upload for each name and principal."""
    about: About = NOTHING_SAID


@dataclasses.dataclass(frozen=True, slots=True)
class AppendUpload:
    """Command: append the body of a request to an upload, at `offset`."""

    upload_id: str
    dialect: str
    offset: int
    length: int | None = None
    """Bytes of the whole upload; None when the request does not say."""
    completes: bool | None = None
    """Whether the upload ends with this request. None: it ends when its length is reached."""
    expected: tuple[Digest, ...] = ()
    """Digests of this request's content. When there are any, nothing is acknowledged before they
    matched, and an incomplete body is dropped.
    """
    digest_in_trailer: bool = False
    """More digests of the content come after the body; the same holds as with `expected`."""
    file_digests: tuple[Digest, ...] = ()
    """Digests of the whole file, which must match before publication."""


@dataclasses.dataclass(frozen=True, slots=True)
class UploadRecord:
    """One resumable upload, as it is stored."""

    id: str
    principal: str
    dialect: str
    state: UploadState
    offset: int
    """Committed bytes: they survive what the durability setting promises."""
    length: int | None
    """Bytes of the whole upload; None when it is not known yet."""
    name: str
    """The name asked for, a valid path; `final_name` differs when the name was taken."""
    created_at: float
    expires_at: float | None
    """When it is removed; None for never."""
    conflict: Conflict = Conflict.RENAME
    media_type: str | None = None
    metadata: bytes = b""
    """The metadata of the dialect, byte for byte as the client sent it."""
    final_name: str | None = None
    """Recorded before publication, so that a restart can check whether that happened."""
    final_size: int | None = None
    outcome: bytes = b""
    """What the final answer is made from, and the state of the calls of `on_complete` (a JSON
    object).
    """
    extra: bytes = b""
    """What else a dialect or the engine stores (a JSON object)."""
    version: int = 1
    """Rises by one with every change; a change names the version that it replaces."""
    binding: str | None = None
    """A second key it is found by; no two uploads that are OPEN or COMPLETING share one."""
    notify_at: float | None = None
    """When `on_complete` is called next for the published file; None when no call is pending."""
    place: str = ""
    """The store's own note of where the data is (`Commit.place`)."""

    @property
    def is_unfinished(self) -> bool:
        """Whether it is OPEN or COMPLETING: it may still become a file."""
        return self.state in UNFINISHED


@dataclasses.dataclass(frozen=True, slots=True)
class Offered:
    """What resumable uploads can do here. What is advertised, and what is refused, follows from
    this alone (invariant 14).
    """

    resumable: bool = True
    """Uploads outlive their request. Without it, none of the others holds."""
    checksum: bool = True
    """Bytes are dropped when they do not match their checksum."""
    concatenation: bool = True
    """Uploads can be made of other uploads."""
    expiration: bool = True
    """Unfinished uploads are removed after `--retention`."""
    termination: bool = True
    """Clients can cancel uploads."""


NOTHING_OFFERED = Offered(
    resumable=False, checksum=False, concatenation=False, expiration=False, termination=False
)


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """Durable bytes of an upload from `start` on. Sessions store it as it is; only the store that
    made it understands `kind` and `ref`.
    """

    start: int
    size: int
    kind: str
    """`part` (of a multipart upload), `object` (of its own key), `inline` (`data` itself)."""
    number: int = 0
    ref: str = ""
    """ETag of a part; key suffix of an object."""
    data: bytes = b""


@dataclasses.dataclass(frozen=True, slots=True)
class Commit:
    """What a commit makes of an upload. `added` and `dropped` are recorded in one transaction;
    objects of `dropped` are removed only after that, by `Staged.recorded`.
    """

    offset: int
    """Bytes that may be acknowledged."""
    added: tuple[Piece, ...] = ()
    dropped: tuple[Piece, ...] = ()
    next_number: int = 0
    """The first part number that no request of unknown outcome may have used."""
    place: str = ""
    """The store's own note of where the data is; recorded, and given back to `resume`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """The right to record changes of an upload.

    `token` is random, `fence` counts: both must still be those recorded, so that a state that lost
    its last seconds cannot issue an old right again.
    """

    upload_id: str
    fence: int
    token: str
    numbers: range
    """Part numbers that are this lease's alone; no earlier or later one uses them."""
