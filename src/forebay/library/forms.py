"""`Form`: a received form, as a handler is given it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic

from forebay.engine.forms.parts import MultiDict
from forebay.errors import UploadError
from forebay.library.form_validation import absent
from forebay.library.upload import Upload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import TypeVar

    M = TypeVar("M", default=Any)
else:
    from typing import TypeVar

    M = TypeVar("M")
T = TypeVar("T")


class FormValues(MultiDict[T]):
    """A mapping to the first value of each name; `getall(name)` returns all values of a name."""

    def __getitem__(self, name: str) -> T:
        try:
            return super().__getitem__(name)
        except KeyError:
            raise absent(name) from None


@dataclasses.dataclass(frozen=True, slots=True)
class LeftOut:
    """A file of a form that was not stored, while the others were."""

    field: str
    """The name of its field."""
    filename: str
    """As the client sent it, unchecked."""
    error: UploadError
    """Why it was not stored."""


class Form(Mapping[str, Any], Generic[M]):
    """A received form: `form["title"]` is text, `form["clip"]` an `Upload`.

    A field that is declared with a type has a value of that type; a field that is declared for
    several files has a list of uploads; any other name has its first value. `getall` returns all
    values of a name. A missing name raises MissingField, a KeyError; raised from a handler it is
    answered by 422.
    """

    def __init__(
        self,
        texts: MultiDict[str],
        files: MultiDict[Upload],
        *,
        lists: Iterable[str] = (),
        model: Any = None,
        values: Mapping[str, Any] | None = None,
        left_out: Sequence[LeftOut] = (),
    ) -> None:
        self.fields: FormValues[str] = FormValues(texts.multi_items())
        """The text fields, as they were sent."""
        self.files: FormValues[Upload] = FormValues(files.multi_items())
        """The files."""
        self.model: M = model
        """An instance of the model that `fields=` declares; None without one."""
        self.left_out = left_out
        """Hidden files that were not stored, while the others were: tell the client of them."""
        self._lists = tuple(lists)
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        if name in self._lists:
            return self.files.getall(name)
        return self.fields[name] if name in self.fields else self.files[name]

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys((*self._values, *self.fields, *self._lists, *self.files))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def getall(self, name: str) -> list[Any]:
        """All values of that name: first its text, as it was sent, then its files."""
        return [*self.fields.getall(name), *self.files.getall(name)]

    def __repr__(self) -> str:
        return f"Form(fields={self.fields!r}, files={self.files!r})"
