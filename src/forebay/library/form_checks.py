"""Whether a received form is what its route declares, before anything of it is published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebay.engine.forms.parts import MultiDict
from forebay.errors import InvalidForm, MissingField
from forebay.hooks.python import call
from forebay.library.form_fields import Problem, fields_of, missing, problem

if TYPE_CHECKING:
    from forebay.engine.forms.form import Form as ReceivedForm
    from forebay.library.options import FormWish


async def checked(form: ReceivedForm, wish: FormWish) -> tuple[MultiDict[str], Any]:
    """The text fields, and the model made of them (None without types). Raises InvalidForm that
    says everything that is wrong.
    """
    texts = MultiDict(
        (name, text)
        for name, text in form.fields.multi_items()
        if text or name not in wish.named  # an empty text in a file field: no file was chosen
    )
    problems = _wrong_kinds(form, wish)
    model = None
    if wish.fields is not None:
        # In a thread: what the application's validators wait for holds up nobody else.
        model, wrong = await call(wish.fields.validate, texts)
        known = fields_of(problems)
        problems += [found for found in wrong if not fields_of([found]) & known]
    for name in wish.required:
        there = name in form.files or any(texts.getall(name))
        if not there and name not in fields_of(problems):
            problems.append(missing(name))
    if problems:
        raise refuse(*problems, texts=texts)
    return texts, model


def _wrong_kinds(form: ReceivedForm, wish: FormWish) -> list[Problem]:
    """Text in a field for files, and text too large to be a value."""
    found = [
        problem("file_expected", name, "Send a file in this field, not text", text[:200])
        for name, text in form.fields.multi_items()
        if text and name in wish.named
    ]
    typed = wish.fields.names if wish.fields is not None else frozenset()
    for name, file in form.files.multi_items():
        if file.filename is None and name in wish.named:  # text that was put on the disk
            found.append(problem("file_expected", name, "Send a file in this field, not text"))
        elif file.filename is None and name in typed:
            found.append(problem("string_too_long", name, "The text is too long"))
    return found


def absent(name: str) -> MissingField:
    """What `form[name]` raises."""
    return MissingField(f"{name[:80]}: Field required.", problems=[missing(name)], field=name)


def refuse(*problems: Problem, texts: MultiDict[str] | None = None) -> InvalidForm:
    told = "; ".join(f"{_place(found)}: {found['msg']}" for found in problems[:5])
    more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
    fields = None if texts is None else {name: texts[name] for name in texts}
    return InvalidForm(f"{told}{more}.", problems=list(problems), texts=fields)


def _place(found: Problem) -> str:
    return ".".join(str(part)[:80] for part in found["loc"][1:]) or "form"
