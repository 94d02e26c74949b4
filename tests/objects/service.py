"""An object service in memory, with the manners of S3.

Keys name immutable objects with an ETag and metadata. Large ones are made of numbered parts.
There is no rename, no link, no descriptor, no append and no lock. Any request can fail, can be done
although its answer is lost, or can be done later than its sender believes (`fail`).
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import dataclasses
import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

KiB = 1024

T = TypeVar("T")


class ServiceError(Exception):
    """An answer that is no success; `code` as S3 writes it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class NoAnswer(Exception):
    """The connection broke: the request was done, will be done, or never is."""


@dataclasses.dataclass(frozen=True, slots=True)
class Object:
    content: bytes
    etag: str
    metadata: Mapping[str, str]
    modified_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class Upload:
    """An unfinished multipart upload."""

    key: str
    metadata: Mapping[str, str]
    started_ns: int
    parts: dict[int, Object]


@dataclasses.dataclass(slots=True)
class Fault:
    """What happens to the next `times` requests of one kind."""

    operation: str
    kind: str
    """`refused`: 503, not done. `before`: no answer, not done. `lost`: done, no answer. `late`: no
    answer, and done when `land` is called. `slow`: done after `seconds`.
    """
    key: str
    times: int
    seconds: float


class ObjectService:
    """See the top of this file. Thread-safe.

    Args:
        least_part: bytes that every part but the last must have.
        latency: seconds that each request takes.
        capacity: bytes that it tells it has in all.
    """

    def __init__(
        self, *, least_part: int = 64 * KiB, latency: float = 0.0, capacity: int = 1 << 34
    ) -> None:
        self.least_part = least_part
        self.latency = latency
        self.capacity = capacity
        self.requests: collections.Counter[str] = collections.Counter()
        """How many there were of each kind."""
        self.chance: Callable[[str, str], str | None] = lambda operation, key: None
        """Asked about every request that no fault was set for: the kind of its fault."""
        self._lock = threading.RLock()
        self._objects: dict[str, Object] = {}
        self._keys: list[str] = []
        self._uploads: dict[str, Upload] = {}
        self._made = 0
        self._faults: list[Fault] = []
        self._late: list[Callable[[], object]] = []

    # --- faults ---

    def fail(
        self, operation: str, kind: str, *, key: str = "", times: int = 1, seconds: float = 0.05
    ) -> None:
        """The next `times` requests `operation` (a method of this class; "" is any) for a key that
        contains `key` have that fault.
        """
        with self._lock:
            self._faults.append(Fault(operation, kind, key, times, seconds))

    def heal(self) -> None:
        """Forgets all faults that have not happened."""
        with self._lock:
            self._faults.clear()
            self.chance = lambda operation, key: None

    def land(self) -> int:
        """Does all requests that are late; how many."""
        with self._lock:
            late, self._late = self._late, []
            for do in late:
                with contextlib.suppress(ServiceError):  # nobody is there to hear of it
                    do()
        return len(late)

    def _fault(self, operation: str, key: str) -> tuple[str | None, float]:
        for fault in self._faults:
            if fault.operation in ("", operation) and fault.key in key:
                fault.times -= 1
                if not fault.times:
                    self._faults.remove(fault)
                return fault.kind, fault.seconds
        return self.chance(operation, key), 0.01

    def _request(self, operation: str, key: str, do: Callable[[], T]) -> T:
        if self.latency:
            time.sleep(self.latency)
        with self._lock:
            self.requests[operation] += 1
            kind, seconds = self._fault(operation, key)
            if kind == "late":
                self._late.append(do)
                raise NoAnswer
        match kind:
            case "refused":
                raise ServiceError("SlowDown")
            case "before":
                raise NoAnswer
            case "lost":
                with self._lock:
                    do()
                raise NoAnswer
            case "slow":
                time.sleep(seconds)
        with self._lock:
            return do()

    # --- objects ---

    def put(
        self,
        key: str,
        content: bytes,
        metadata: Mapping[str, str] | None = None,
        *,
        if_none_match: bool = False,
        if_match: str | None = None,
    ) -> str:
        """Stores an object whole; its ETag. `if_none_match`: only where there is none."""
        etag = hashlib.md5(content, usedforsecurity=False).hexdigest()

        def do() -> str:
            self._check(key, if_none_match, if_match)
            self._store(key, Object(bytes(content), etag, metadata or {}, time.time_ns()))
            return etag

        return self._request("put", key, do)

    def get(self, key: str, start: int, size: int, *, if_match: str | None = None) -> bytes:
        """At most `size` bytes from `start` on."""

        def do() -> bytes:
            found = self._find(key, if_match)
            return found.content[start : start + size]

        return self._request("get", key, do)

    def head(self, key: str) -> Object:
        return self._request("head", key, lambda: self._find(key))

    def copy(self, source: str, key: str) -> str:
        def do() -> str:
            found = self._find(source)
            self._store(key, dataclasses.replace(found, metadata={}, modified_ns=time.time_ns()))
            return found.etag

        return self._request("copy", key, do)

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        """No error when there is none, unless `if_match` is given."""

        def do() -> None:
            if if_match is not None:
                self._check(key, False, if_match)
            if self._objects.pop(key, None) is not None:
                del self._keys[bisect.bisect_left(self._keys, key)]

        self._request("delete", key, do)

    def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """Keys that begin with `prefix`, from after the key `after`, in byte order."""

        def do() -> Sequence[str]:
            start = max(
                bisect.bisect_left(self._keys, prefix), bisect.bisect_right(self._keys, after)
            )
            found = []
            for key in self._keys[start : start + limit]:
                if not key.startswith(prefix):
                    break
                found.append(key)
            return found

        return self._request("list", prefix, do)

    # --- multipart uploads ---

    def create_upload(self, key: str, metadata: Mapping[str, str] | None = None) -> str:
        def do() -> str:
            self._made += 1
            upload_id = f"m{self._made}"
            self._uploads[upload_id] = Upload(key, metadata or {}, time.time_ns(), {})
            return upload_id

        return self._request("create_upload", key, do)

    def upload_part(self, key: str, upload_id: str, number: int, content: bytes) -> str:
        """A number that is used again has the later content."""
        etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return self._request(
            "upload_part", key, lambda: self._add_part(key, upload_id, number, content, etag)
        )

    def copy_part(
        self, key: str, upload_id: str, number: int, source: str, start: int, size: int
    ) -> str:
        def do() -> str:
            content = self._find(source).content[start : start + size]
            etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
            return self._add_part(key, upload_id, number, content, etag)

        return self._request("copy_part", key, do)

    def complete(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[tuple[int, str]],
        *,
        if_none_match: bool = False,
        if_match: str | None = None,
    ) -> str:
        """Makes the object of parts (numbers rising, with their ETags); its ETag."""

        def do() -> str:
            upload = self._upload(key, upload_id)
            numbers = [number for number, _ in parts]
            if not parts or numbers != sorted(set(numbers)):
                raise ServiceError("InvalidPartOrder")
            chosen = []
            for number, etag in parts:
                part = upload.parts.get(number)
                if part is None or part.etag != etag:
                    raise ServiceError("InvalidPart")
                chosen.append(part.content)
            if any(len(content) < self.least_part for content in chosen[:-1]):
                raise ServiceError("EntityTooSmall")
            self._check(key, if_none_match, if_match)
            joined = "".join(etag for _, etag in parts)
            etag = hashlib.md5(joined.encode(), usedforsecurity=False).hexdigest()
            made = Object(b"".join(chosen), f"{etag}-{len(parts)}", upload.metadata, time.time_ns())
            self._store(key, made)
            del self._uploads[upload_id]
            return made.etag

        return self._request("complete", key, do)

    def abort(self, key: str, upload_id: str) -> None:
        def do() -> None:
            self._upload(key, upload_id)
            del self._uploads[upload_id]

        self._request("abort", key, do)

    def list_uploads(self) -> Sequence[tuple[str, str, int]]:
        """Key, id and moment (ns) of every unfinished multipart upload."""
        return self._request(
            "list_uploads",
            "",
            lambda: [(made.key, name, made.started_ns) for name, made in self._uploads.items()],
        )

    # --- for tests ---

    @property
    def used(self) -> int:
        """Bytes stored, those of unfinished uploads too."""
        with self._lock:
            parts = [part for made in self._uploads.values() for part in made.parts.values()]
            return sum(len(each.content) for each in (*self._objects.values(), *parts))

    def everything(self) -> dict[str, bytes]:
        """All objects by their keys, and unfinished uploads by `key?upload_id`."""
        with self._lock:
            unfinished = {f"{made.key}?{name}": b"" for name, made in self._uploads.items()}
            return {key: each.content for key, each in self._objects.items()} | unfinished

    # --- under the lock ---

    def _find(self, key: str, if_match: str | None = None) -> Object:
        found = self._objects.get(key)
        if found is None:
            raise ServiceError("NoSuchKey")
        if if_match is not None and found.etag != if_match:
            raise ServiceError("PreconditionFailed")
        return found

    def _check(self, key: str, if_none_match: bool, if_match: str | None) -> None:
        there = self._objects.get(key)
        if if_none_match and there is not None:
            raise ServiceError("PreconditionFailed")
        if if_match is not None and (there is None or there.etag != if_match):
            raise ServiceError("PreconditionFailed")

    def _store(self, key: str, made: Object) -> None:
        if key not in self._objects:
            bisect.insort(self._keys, key)
        self._objects[key] = made

    def _upload(self, key: str, upload_id: str) -> Upload:
        upload = self._uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise ServiceError("NoSuchUpload")
        return upload

    def _add_part(self, key: str, upload_id: str, number: int, content: bytes, etag: str) -> str:
        part = Object(bytes(content), etag, {}, time.time_ns())
        self._upload(key, upload_id).parts[number] = part
        return etag
