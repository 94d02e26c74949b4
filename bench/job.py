"""What one upload looks like on the wire, as plain values that also travel as JSON."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Framing = Literal["length", "chunks", "one-chunk"]
CHUNK = 64 << 10


@dataclass(frozen=True)
class Step:
    """One request. The path `@location` stands for the Location of the answer before it."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bool = False
    prefix: str = ""
    suffix: str = ""
    framing: Framing = "length"
    start: int = 0
    size: int | None = None
    """The part of the source that is the body, in bytes; all of it when `size` is None."""

    def body_size(self, whole: int) -> int:
        return whole if self.size is None else self.size


@dataclass(frozen=True)
class Job:
    """What a client process is asked to do. Sizes in bytes, times in seconds."""

    kind: Literal["upload", "download", "slow", "requests", "takeover"]
    port: int
    source: str
    size: int
    uploads: tuple[tuple[Step, ...], ...]
    certificate: str | None = None
    duration: float = 0.0
    digest: bool = False
    timeout: float = 300.0
    repeat: int = 1
    server_pid: int = 0
    across: bool = False
    """Takes over on a connection that another process of the server accepted."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Job":
        uploads = tuple(
            tuple(
                Step(**{**step, "headers": tuple((k, v) for k, v in step["headers"])})
                for step in upload
            )
            for upload in data["uploads"]
        )
        return cls(**{**data, "uploads": uploads})
