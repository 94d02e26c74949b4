"""Typed text fields of a form: a pydantic model, or names and types from which one is made.

pydantic is not a dependency of Forebay. It is imported only when types are given.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from forebay.engine.forms.parts import MultiDict
from forebay.errors import ConfigError

Problem = dict[str, Any]
"""One problem with a field: `type`, `loc`, `msg` and `input`, as pydantic writes them."""


@dataclasses.dataclass(frozen=True, slots=True)
class TypedField:
    """One field of the model."""

    attribute: str
    """Its name in the model."""
    names: tuple[str, ...]
    """The names that clients may send; the first one is in the documentation."""
    is_list: bool


@dataclasses.dataclass(frozen=True, slots=True)
class TypedFields:
    """The typed text fields that a form declares."""

    model: Any
    """A class made by pydantic."""
    fields: tuple[TypedField, ...]

    @property
    def names(self) -> frozenset[str]:
        """All names that clients may send."""
        return frozenset(name for field in self.fields for name in field.names)

    def validate(self, texts: MultiDict[str]) -> tuple[Any, list[Problem]]:
        """The model made of `texts`, or None and the problems. Runs the model's validators.

        Empty text counts as not given, as in FastAPI: browsers send it for every input that was
        not filled in.
        """
        import pydantic

        given, problems = self._given(texts)
        try:
            model = self.model.model_validate(given)
        except pydantic.ValidationError as error:
            found_by_model: list[Problem] = [
                {**found, "loc": ("body", *found["loc"])}
                for found in error.errors(include_url=False)
            ]
            known = fields_of(problems)
            return None, problems + [one for one in found_by_model if not fields_of([one]) & known]
        return (None, problems) if problems else (model, [])

    def _given(self, texts: MultiDict[str]) -> tuple[dict[str, Any], list[Problem]]:
        given: dict[str, Any] = {}
        problems = []
        for field in self.fields:
            for name in field.names:
                values = [text for text in texts.getall(name) if text or field.is_list]
                if field.is_list and values and values != [""]:
                    given[name] = values
                elif len(values) > 1:
                    problems.append(
                        problem("too_many_values", name, "Send this field once", values)
                    )
                elif values and not field.is_list:
                    given[name] = values[0]
        for name in texts:  # for models that forbid, or accept, undeclared fields
            if name not in self.names:
                values = texts.getall(name)
                given[name] = values if len(values) > 1 else values[0]
        return given, problems

    def values(self, model: Any) -> dict[str, Any]:
        """The values of `model`, by the first name of each field."""
        return {field.names[0]: getattr(model, field.attribute) for field in self.fields}


def problem(kind: str, field: str, message: str, value: object = None) -> Problem:
    """One problem of type `kind` with a field."""
    return {"type": kind, "loc": ("body", field), "msg": message, "input": value}


def fields_of(problems: Iterable[Problem]) -> set[Any]:
    """The names of the fields that have problems."""
    return {found["loc"][1] for found in problems if len(found["loc"]) > 1}


def missing(field: str) -> Problem:
    """The problem of a required field that was not sent."""
    return problem("missing", field, "Field required")


def make_fields(given: Any) -> TypedFields | None:
    """From a pydantic model, or from a mapping of names to types (`int`, `list[str]`) or to pairs
    of type and default. Raises ConfigError.
    """
    if given is None or isinstance(given, TypedFields):
        return given
    try:
        import pydantic
    except ImportError:
        raise ConfigError("Typed fields of forms need pydantic: pip install pydantic.") from None
    model = _model_of(given, pydantic) if isinstance(given, Mapping) else given
    if not (isinstance(model, type) and issubclass(model, pydantic.BaseModel)):
        raise ConfigError(
            f"fields cannot be {given!r}. Give a pydantic model, or types by the names of the "
            "fields, such as {'title': str, 'year': (int, 2000)}."
        )
    if issubclass(model, pydantic.RootModel):
        raise ConfigError(f"fields cannot be {given!r}: a form has named fields, no root.")
    return TypedFields(model, tuple(_fields_of(model)))


def _model_of(given: Mapping[str, Any], pydantic: Any) -> Any:
    kinds: dict[str, Any] = {}
    for number, (name, declared) in enumerate(given.items()):
        kind, default = declared if isinstance(declared, tuple) else (declared, ...)
        if name.isidentifier() and name[0] != "_" and not hasattr(pydantic.BaseModel, name):
            kinds[name] = (kind, default)
        else:  # a name that no attribute of a model can have
            kinds[f"field_{number}"] = (typing.Annotated[kind, pydantic.Field(alias=name)], default)
    try:
        return pydantic.create_model("Fields", **kinds)
    except (TypeError, ValueError, NameError, pydantic.errors.PydanticUserError) as error:
        raise ConfigError(f"fields cannot be {given!r}: {error}") from None


def _fields_of(model: Any) -> Iterable[TypedField]:
    by_name = model.model_config.get("populate_by_name") or model.model_config.get(
        "validate_by_name"
    )
    for attribute, info in model.model_fields.items():
        alias = info.validation_alias or info.alias or attribute
        choices = getattr(alias, "choices", [alias])
        names = [name for name in choices if isinstance(name, str)]
        if by_name or not names:
            names.append(attribute)
        as_json = any(type(one).__name__ == "Json" or _is_json(one) for one in info.metadata)
        is_list = not as_json and is_sequence(info.annotation)
        yield TypedField(attribute, tuple(dict.fromkeys(names)), is_list)


def _is_json(metadata: Any) -> bool:
    return getattr(metadata, "__name__", "") == "Json"


def is_sequence(annotation: Any) -> bool:
    """Whether a type holds several values: `list[int]`, `set[str] | None`, ..."""
    origin = typing.get_origin(annotation) or annotation
    if origin is typing.Annotated:
        return is_sequence(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return any(is_sequence(one) for one in typing.get_args(annotation))
    several = (collections.abc.Sequence, collections.abc.Set, collections.deque)
    single = (str, bytes, bytearray)
    return (
        isinstance(origin, type) and issubclass(origin, several) and not issubclass(origin, single)
    )
