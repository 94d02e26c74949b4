from pathlib import Path

from forebay.sessions.base import Sessions
from forebay.sessions.memory import MemorySessions

from .contract import SessionsContract


class TestMemory(SessionsContract):
    def make(self, folder: Path) -> Sessions:
        return MemorySessions()
