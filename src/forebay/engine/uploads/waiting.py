"""Which final uploads wait for which parts, in one process. An index without effects."""

from __future__ import annotations

from collections.abc import Iterable


class WaitingFinals:
    """Final uploads and the parts that each is still missing."""

    def __init__(self) -> None:
        self._finals: dict[str, set[str]] = {}
        """By part, the final uploads that wait for it."""
        self._parts: dict[str, set[str]] = {}
        """By final upload, the parts that it waits for."""

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def finals(self) -> list[str]:
        return list(self._parts)

    def add(self, part_id: str, final_id: str) -> None:
        self._finals.setdefault(part_id, set()).add(final_id)
        self._parts.setdefault(final_id, set()).add(part_id)

    def discard(self, part_id: str, final_id: str) -> None:
        """The final upload does not wait for that part any more."""
        for index, key, value in (
            (self._finals, part_id, final_id),
            (self._parts, final_id, part_id),
        ):
            found = index.get(key, set())
            found.discard(value)
            if not found:
                index.pop(key, None)

    def forget(self, final_id: str) -> None:
        """The final upload waits for nothing any more."""
        for part_id in list(self._parts.get(final_id, ())):
            self.discard(part_id, final_id)

    def part_ended(self, part_id: str) -> Iterable[str]:
        """The final uploads that waited for the part; they do not any more."""
        finals = self._finals.pop(part_id, set())
        for final_id in finals:
            self._parts.get(final_id, set()).discard(part_id)
        return finals
