"""Checks a received form against its route's options, before anything of it is published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebay.engine.forms.parts import MultiDict
from forebay.errors import InvalidForm, MissingField
from forebay.hooks.python import call
from forebay.library.form_fields import Problem, fields_of, missing, problem

if TYPE_CHECKING:
    from forebay.engine.forms.form import Form as ReceivedForm
    from forebay.library.options import FormOptions


async def validated(form: ReceivedForm, options: FormOptions) -> tuple[MultiDict[str], Any]:
    """The text fields, and the model made of them (None without types). Raises InvalidForm, which
    lists everything that is wrong.
    """
    texts = MultiDict(
        (name, text)
        for name, text in form.fields.multi_items()
        if text or name not in options.named  # empty text in a file field: no file was chosen
    )
    problems = _wrong_kinds(form, options)
    model = None
    if options.fields is not None:
        # In a thread: the application's validators may wait.
        model, wrong = await call(options.fields.validate, texts)
        known = fields_of(problems)
        problems += [found for found in wrong if not fields_of([found]) & known]
    for name in options.required:
        there = name in form.files or any(texts.getall(name))
        if not there and name not in fields_of(problems):
            problems.append(missing(name))
    if problems:
        raise refuse(*problems, texts=texts)
    return texts, model


def _wrong_kinds(form: ReceivedForm, options: FormOptions) -> list[Problem]:
    """The problems: text in a field for files, or text that is too large to be a value."""
    found = [
        problem("file_expected", name, "Send a file in this field, not text", text[:200])
        for name, text in form.fields.multi_items()
        if text and name in options.named
    ]
    typed = options.fields.names if options.fields is not None else frozenset()
    for name, file in form.files.multi_items():
        if file.filename is None and name in options.named:  # text that was spilled to disk
            found.append(problem("file_expected", name, "Send a file in this field, not text"))
        elif file.filename is None and name in typed:
            found.append(problem("string_too_long", name, "The text is too long"))
    return found


def absent(name: str) -> MissingField:
    """The error that `form[name]` raises for a missing name."""
    return MissingField(f"{name[:80]}: Field required.", problems=[missing(name)], field=name)


def refuse(*problems: Problem, texts: MultiDict[str] | None = None) -> InvalidForm:
    """The error that lists `problems`; its message has the first five."""
    listed = "; ".join(f"{_place(found)}: {found['msg']}" for found in problems[:5])
    more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
    fields = None if texts is None else {name: texts[name] for name in texts}
    return InvalidForm(f"{listed}{more}.", problems=list(problems), texts=fields)


def _place(found: Problem) -> str:
    return ".".join(str(part)[:80] for part in found["loc"][1:]) or "form"
