"""Entity tags, and conditions of requests that compare them (RFC 9110, sections 8.8 and 13)."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class EntityTag:
    """An entity tag (RFC 9110, section 8.8.3). `opaque` is without the quotes."""

    opaque: str
    weak: bool = False

    @property
    def identity(self) -> EntityTag:
        """The tag of the same file without a content coding: the reverse of `coded_tag`."""
        return dataclasses.replace(self, opaque=self.opaque.removesuffix(_CODED))


_CODED = "-zstd"


def coded_tag(tag: str) -> str:
    """The opaque part of the tag of the same file when it is sent with `Content-Encoding: zstd`.

    That is another representation, so it needs another tag (RFC 9110, section 8.8.3.3).
    """
    return tag + _CODED


@dataclasses.dataclass(frozen=True, slots=True)
class Preconditions:
    """The conditions of a request (RFC 9110, section 13.1). None when the field is absent.

    Tags are a tuple, `()` for `*`. Dates are whole seconds since the epoch.
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
        """`If-Match`: only when there is a file, and it has one of these tags."""
        return self.if_match is not None

    def permit_write(self, tag: str | None, mtime_ns: int) -> bool:
        """RFC 9110, section 13.2.2, for a method that stores or removes a file.

        `tag` is the strong tag of what is there now, None when nothing is.
        """
        if self.if_match is not None:
            if tag is None:
                return False
            # `()` is `*`; a weak tag never matches here (strong comparison, section 8.8.3.2).
            # The tag of the file in a content coding stands for the file as well.
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
