"""Describes routes that take an upload or a form in an OpenAPI document."""

from __future__ import annotations

from typing import Any

from forebay.library.options import FormOptions, UploadOptions
from forebay.model import Conflict
from forebay.protocol.status import phrase

Schema = dict[str, Any]

_BINARY: Schema = {"type": "string", "format": "binary"}
_REF = "#/components/schemas/"
_ANY = ("application/octet-stream", "*/*")  # the first is what Swagger UI sends by itself


def describe_operation(
    document: Schema,
    operation: Schema,
    options: UploadOptions | FormOptions,
    *,
    problem_documents: bool = False,
) -> None:
    """Adds body, parameters and error responses to an operation of `document`; those that the
    application has described itself stay. `problem_documents`: errors are RFC 9457 documents.
    """
    if isinstance(options, FormOptions):
        operation.setdefault("requestBody", form_body(options, document))
        statuses = _form_refusals(options)
    else:
        operation.setdefault("requestBody", upload_body(options))
        if not _is_one_file(options):
            _add_parameter(operation, _FILENAME)
        statuses = _refusals(options)
    responses = operation.setdefault("responses", {})
    for status in statuses:
        if status == 422 and isinstance(options, FormOptions):
            answer = _validation_answer(document)
        else:
            answer = _answer(document, status, problem_documents)
        responses.setdefault(str(status), answer)


def upload_body(options: UploadOptions) -> Schema:
    """The request body: the file itself."""
    content = {kind: {"schema": dict(_BINARY)} for kind in options.types or _ANY}
    return {"required": True, "content": content}


def form_body(options: FormOptions, document: Schema) -> Schema:
    """The request body: a form. Schemas that the model refers to are added to the document's."""
    properties: Schema = {}
    schema: Schema = {"type": "object", "properties": properties}
    required: list[str] = []
    if options.fields is not None:
        model = options.fields.model.model_json_schema(ref_template=_REF + "{model}")
        model = _adopt(model, document)
        for name, one in model.get("properties", {}).items():
            properties[name] = _as_text(one)
        required += model.get("required", ())
        schema.update({key: model[key] for key in ("title", "description") if key in model})
        if "additionalProperties" in model:
            schema["additionalProperties"] = model["additionalProperties"]
    for name in options.required:
        if name not in properties and name not in options.named:
            properties[name] = {"type": "string", "title": _title(name)}
    encoding: Schema = {}
    for name, one in options.files.items():
        shown = "files" if name == "*" else name
        several = name == "*" or name in options.lists
        if shown not in properties:
            properties[shown] = {**_BINARY, "title": _title(shown)}
            if several:
                properties[shown] = {"type": "array", "items": dict(_BINARY)}
                if name not in options.required:
                    properties[shown]["default"] = []  # Swagger UI begins with that many
            if one.types:
                encoding[shown] = {"contentType": ", ".join(one.types)}
    if "*" in options.files:
        schema["additionalProperties"] = {"type": "array", "items": dict(_BINARY)}
    if required := list(dict.fromkeys([*required, *options.required])):
        schema["required"] = required
    content: Schema = {"schema": schema}
    if encoding:
        content["encoding"] = encoding
    return {"required": True, "content": {"multipart/form-data": content}}


def _as_text(schema: Schema) -> Schema:
    """A property without null, which no text can express. A field without a value is not sent;
    Swagger UI would send the word "null".
    """
    found = {key: one for key, one in schema.items() if (key, one) != ("default", None)}
    kinds = [one for one in found.get("anyOf", ()) if one != {"type": "null"}]
    if len(kinds) == 1:
        del found["anyOf"]
        found = {**kinds[0], **found}
    elif kinds:
        found["anyOf"] = kinds
    return found


def _title(name: str) -> str:
    return name.replace("_", " ").title()


# --- schemas of models ---------------------------------------------------------------------------


def _adopt(model: Schema, document: Schema) -> Schema:
    """`model` with its definitions moved to the schemas of the document, under other names when
    their names are taken.
    """
    definitions: Schema = model.pop("$defs", {})
    known: Schema = document.setdefault("components", {}).setdefault("schemas", {})
    renamed = {}
    for name, definition in definitions.items():
        new = name
        while new in known and known[new] != definition:
            new += "Field"
        renamed[_REF + name] = _REF + new
    for name, definition in definitions.items():
        known[renamed[_REF + name].removeprefix(_REF)] = _with_refs(definition, renamed)
    adopted: Schema = _with_refs(model, renamed)
    return adopted


def _with_refs(value: Any, renamed: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            key: renamed.get(one, one) if key == "$ref" else _with_refs(one, renamed)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [_with_refs(one, renamed) for one in value]
    return value


# --- parameters and answers ----------------------------------------------------------------------

_FILENAME: Schema = {
    "name": "X-Filename",
    "in": "header",
    "required": False,
    "description": "The name of the file, percent-encoded. `Content-Disposition` may say it too.",
    "schema": {"type": "string"},
}


def _add_parameter(operation: Schema, parameter: Schema) -> None:
    there = operation.setdefault("parameters", [])
    if parameter["name"].lower() not in {str(one.get("name", "")).lower() for one in there}:
        there.append(dict(parameter))


def _is_one_file(options: UploadOptions) -> bool:
    """Whether `to` is the path of one file."""
    return isinstance(options.to, str) and bool(options.to) and not options.to.endswith("/")


def _refusals(options: UploadOptions) -> list[int]:
    """The statuses, 400 to 499, by which such a request may be refused."""
    taken = options.conflict is Conflict.REFUSE
    if options.conflict in (None, Conflict.AUTO):
        taken = _is_one_file(options)
    return [400, 401, 403, 408, *([409] if taken else []), 413, 415, 422]


def _form_refusals(options: FormOptions) -> list[int]:
    found = {status for one in options.files.values() for status in _refusals(one)}
    return sorted(found | {400, 401, 403, 408, 413, 415, 422})


_ERROR: Schema = {
    "title": "UploadError",
    "type": "object",
    "properties": {
        "detail": {
            "type": "object",
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
            "required": ["code", "message"],
        }
    },
    "required": ["detail"],
}
_PROBLEM: Schema = {
    "title": "UploadProblem",
    "type": "object",
    "description": "RFC 9457. `code` never changes; `detail` is for people.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "upload": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail", "code"],
}
_VALIDATION: Schema = {
    "ValidationError": {
        "title": "ValidationError",
        "type": "object",
        "properties": {
            "loc": {
                "title": "Location",
                "type": "array",
                "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            },
            "msg": {"title": "Message", "type": "string"},
            "type": {"title": "Error Type", "type": "string"},
        },
        "required": ["loc", "msg", "type"],
    },
    "HTTPValidationError": {
        "title": "HTTPValidationError",
        "type": "object",
        "properties": {
            "detail": {
                "title": "Detail",
                "type": "array",
                "items": {"$ref": _REF + "ValidationError"},
            }
        },
    },
}
"""As FastAPI writes them; those that are there already stay."""


def _answer(document: Schema, status: int, problem_documents: bool) -> Schema:
    schema = _PROBLEM if problem_documents else _ERROR
    kind = "application/problem+json" if problem_documents else "application/json"
    ref = _component(document, schema["title"], schema)
    return {"description": phrase(status), "content": {kind: {"schema": {"$ref": ref}}}}


def _validation_answer(document: Schema) -> Schema:
    for name, schema in _VALIDATION.items():
        _component(document, name, schema)
    ref = _REF + "HTTPValidationError"
    return {
        "description": "Validation Error",
        "content": {"application/json": {"schema": {"$ref": ref}}},
    }


def _component(document: Schema, name: str, schema: Schema) -> str:
    document.setdefault("components", {}).setdefault("schemas", {}).setdefault(name, schema)
    return _REF + name
