"""The C floor: recv and write in turn, a thread per connection."""

from dataclasses import dataclass
from pathlib import Path

from bench.contenders.base import Contender, SmallRequest
from bench.job import Step
from bench.paths import BIN


@dataclass
class Floor(Contender):
    family = "floor"
    language = "C"

    def durability(self) -> str:
        return "fdatasync, no folder sync" if self.options.strict else "none (page cache)"

    def missing(self) -> str | None:
        return None if (BIN / "floor").exists() else "not compiled: needs cc, then `setup floor`"

    def command(self, folder: Path, port: int) -> list[str]:
        mode = "fdatasync" if self.options.strict else "plain"
        return [str(BIN / "floor"), str(port), str(folder), mode]

    def upload(self, name: str, size: int) -> tuple[Step, ...]:
        return (Step("PUT", f"/{name}", body=True),)

    def small(self, size: int) -> SmallRequest:
        return SmallRequest("PUT", "/small-%d")
