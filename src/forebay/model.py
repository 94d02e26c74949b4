"""Frozen values that the layers hand to each other. No behaviour beyond their own fields.

Sizes, offsets and lengths are in bytes; times are seconds since the epoch (float) unless a
name ends in `_ns`; durations are in seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar

KB, MB, GB, TB = 10**3, 10**6, 10**9, 10**12
KiB, MiB, GiB, TiB = 2**10, 2**20, 2**30, 2**40

SETTINGS_FILE = "forebay.toml"
RESERVED_NAMES = frozenset({SETTINGS_FILE, "web.config", "desktop.ini", "autorun.inf"})
"""In lower case: names without a dot at their beginning that Forebay (the first), web servers or
the file managers of desktops read as settings of their own. No client may store them.
"""


class Durability(StrEnum):
    """What an acknowledgement survives: `relaxed` a killed process, `strict` a power loss."""

    STRICT = "strict"
    RELAXED = "relaxed"


class Conflict(StrEnum):
    """What happens when a file of the wanted name exists.

    `auto` is the default of `--on-conflict`: a PUT is refused (it may not store elsewhere
    than it was told), a POST is renamed.
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
    """Where a text field goes that is larger than `--form-max-field-size`."""

    REFUSE = "refuse"
    MEMORY = "memory"
    DISK = "disk"


@dataclasses.dataclass(frozen=True, slots=True)
class Digest:
    """A digest as RFC 9530 writes it: `algorithm` is the registry's key (`sha-256`)."""

    algorithm: str
    value: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class EntityTag:
    """RFC 9110, section 8.8.3. `opaque` is without its quotes."""

    opaque: str
    weak: bool = False

    @property
    def identity(self) -> EntityTag:
        """The tag of the same file without a content coding (`coded_tag` undone)."""
        return dataclasses.replace(self, opaque=self.opaque.removesuffix(_CODED))


_CODED = "-zstd"


def coded_tag(tag: str) -> str:
    """The opaque part of the tag of the same file sent as `Content-Encoding: zstd`, which is
    another representation and so needs another tag (RFC 9110, section 8.8.3.3).
    """
    return tag + _CODED


@dataclasses.dataclass(frozen=True, slots=True)
class Preconditions:
    """RFC 9110, section 13.1. A tuple of tags, `()` for `*`, None when the field is absent.

    Dates are whole seconds since the epoch.
    """

    if_match: tuple[EntityTag, ...] | None = None
    if_none_match: tuple[EntityTag, ...] | None = None
    if_modified_since: int | None = None
    if_unmodified_since: int | None = None

    def __bool__(self) -> bool:
        return self != NO_PRECONDITIONS

    @property
    def demands_absence(self) -> bool:
        """`If-None-Match: *`: only if there is no such file."""
        return self.if_none_match == ()

    @property
    def demands_presence(self) -> bool:
        """`If-Match`: only over a file that is there, and is one of those."""
        return self.if_match is not None

    def permit_write(self, tag: str | None, mtime_ns: int) -> bool:
        """RFC 9110, section 13.2.2, for a method that stores or removes a file.

        `tag` is the strong tag of what is there now, None when nothing is.
        """
        if self.if_match is not None:
            if tag is None:
                return False
            # `()` is `*`; a weak tag never matches here (strong comparison, section 8.8.3.2).
            # Whatever coding the client got it in, it is this file that it knows.
            known = [given.identity for given in self.if_match]
            if known and EntityTag(tag) not in known:
                return False
        elif (
            self.if_unmodified_since is not None
            and tag is not None
            and mtime_ns // 10**9 > self.if_unmodified_since
        ):
            return False
        if self.if_none_match is None or tag is None:
            return True
        return bool(self.if_none_match) and all(
            given.identity.opaque != tag for given in self.if_none_match
        )


NO_PRECONDITIONS = Preconditions()


@dataclasses.dataclass(frozen=True, slots=True)
class FileInfo:
    """A published file. `name` is its path under the root, with `/` between folders.

    `size` is that of its content, however it is stored.
    """

    name: str
    size: int
    mtime_ns: int
    tag: str
    """The opaque part of a strong entity tag; another content has another tag."""
    is_folder: bool = False
    stored_size: int | None = None
    """Bytes that the file takes, compressed at rest; None when it is stored as it is."""
    identity: str = dataclasses.field(default="", compare=False)
    """Of a file just published: what tells this very file from any other, whatever is done to it
    (touched, linked, written); "" where that was not asked for. No tag: that is of the content.
    """


Metadata = Mapping[str, "str | bytes"]
"""By their keys; text where it is UTF-8."""
_NO_METADATA: Metadata = MappingProxyType({})


@dataclasses.dataclass(frozen=True, slots=True)
class About:
    """What a client says of a file: nothing in here is judged or trusted."""

    filename: str | None = None
    """What the client calls it: the last part of a path, without control characters. It may be
    hidden, reserved or too long, and need not be the name that the file gets.
    """
    metadata: Metadata = dataclasses.field(default_factory=lambda: _NO_METADATA)
    """Upload-Metadata of tus, decoded."""
    fields: tuple[tuple[str, str], ...] = ()
    """The text fields of its form, in their order."""
    length: int | None = None
    """Bytes that it will have; None when nobody knows yet."""
    media_type: str | None = None


NOTHING_SAID = About()


@dataclasses.dataclass(frozen=True, slots=True)
class Receive:
    """A dialect's wish: take one whole body and publish it as `name` (already judged).

    `expected` must match before publication; `wanted` are the algorithms of digests to
    answer with.
    """

    name: str
    conflict: Conflict
    preconditions: Preconditions = NO_PRECONDITIONS
    media_type: str | None = None
    expected: tuple[Digest, ...] = ()
    wanted: tuple[str, ...] = ()
    max_size: int | None = None
    """Bytes; the smaller of this and the settings' applies. None: the settings' alone."""
    coding: str | None = None
    """The content coding to take off; sizes and digests are of what came, too."""
    about: About = NOTHING_SAID


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """What a finished upload came to: the published file and how it got its name."""

    file: FileInfo
    renamed: bool
    replaced: bool
    digests: tuple[Digest, ...] = ()
    duration: float = 0.0
    received: int | None = None
    """Bytes that came, for a file that was decoded; None for one stored as it came."""


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """A moment in an upload's life. `rate` is bytes a second over the last moments."""

    received: int
    total: int | None
    rate: float


@dataclasses.dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `id` is compared to tell whether an upload belongs to somebody.

    `Principal.anonymous` is somebody without a name; all such share their uploads.
    """

    id: str = ""

    anonymous: ClassVar[Principal]


Principal.anonymous = Principal()


class UploadState(StrEnum):
    """The life of a resumable upload. `docs/architecture.md` draws it from the engine's table."""

    OPEN = "open"  # takes bytes
    COMPLETING = "completing"  # has them all; verified and published next, also after a crash
    COMPLETE = "complete"  # published
    FAILED = "failed"  # refused or unusable; nothing was published
    CANCELLED = "cancelled"  # ended by the client


@dataclasses.dataclass(frozen=True, slots=True)
class CreateUpload:
    """A dialect's wish: begin a resumable upload that will be published as `name`."""

    dialect: str
    name: str
    conflict: Conflict
    length: int | None = None
    media_type: str | None = None
    metadata: bytes = b""
    expected: tuple[Digest, ...] = ()
    """Of the whole file; compared before publication."""
    wanted: tuple[str, ...] = ()
    max_size: int | None = None
    preconditions: Preconditions = NO_PRECONDITIONS
    """Judged now and again at publication."""
    partial: bool = False
    """Only a part of a later concatenation: it ends complete but is never published."""
    parts: tuple[str, ...] = ()
    """Ids of the partial uploads whose bytes, in this order, are its own; it takes no others."""
    kept: tuple[tuple[str, str], ...] = ()
    """Names and values that the dialect wants to find in the record's `extra`."""
    bound: bool = False
    """Found again by its name: one living upload for each name and principal."""
    about: About = NOTHING_SAID


@dataclasses.dataclass(frozen=True, slots=True)
class AppendUpload:
    """A dialect's wish: bytes at `offset` of an upload.

    `completes`: True when this request ends the upload, False when it does not, None when
    reaching the length does. `expected`: digests of this request's content; while there are
    any, nothing is acknowledged before they were compared, and what broke off is forgotten.
    """

    upload_id: str
    dialect: str
    offset: int
    length: int | None = None
    """The length of the whole upload, where this request tells it."""
    completes: bool | None = None
    expected: tuple[Digest, ...] = ()
    late: bool = False
    """More digests may come when the body has ended (a trailer): treat as if there were some."""
    of_file: tuple[Digest, ...] = ()
    """Digests of the whole file, which are compared at its end, whichever request told them."""


@dataclasses.dataclass(frozen=True, slots=True)
class UploadRecord:
    """One resumable upload as the session store keeps it.

    `offset` is committed: those bytes survive what the durability setting promises.
    `final_name` is recorded before the data is linked under it, so that a restart can tell
    whether that happened. `version` rises by one with every change and is what a
    compare-and-set compares.
    """

    id: str
    principal: str
    dialect: str
    state: UploadState
    offset: int
    length: int | None
    name: str
    """The name asked for, already judged; `final_name` may differ when renamed."""
    created_at: float
    expires_at: float | None
    conflict: Conflict = Conflict.RENAME
    media_type: str | None = None
    metadata: bytes = b""
    """The dialect's own metadata, byte for byte as the client gave it."""
    final_name: str | None = None
    final_size: int | None = None
    outcome: bytes = b""
    """What the final answer was made from, to say it again when it was lost."""
    extra: bytes = b""
    """Whatever else a dialect has to keep (a JSON object)."""
    version: int = 1
    binding: str | None = None
    """What it is found by beside its id; no two uploads that are OPEN or COMPLETING share one."""
    notify_at: float | None = None
    """When `on_complete` is called next for the published file; None when it is not to be."""


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
