"""Makes an `Upload` or a `Form`, as a handler gets them, for a test."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from forebay.config import Settings
from forebay.engine.bodies.body import Body
from forebay.engine.engine import Engine
from forebay.engine.forms.parts import MultiDict
from forebay.engine.ids import new_id
from forebay.engine.transfer.pump import hashing_for
from forebay.engine.transfer.spool import Spool
from forebay.engine.transfer.workers import Workers
from forebay.library.form_fields import make_fields
from forebay.library.forms import Form
from forebay.library.upload import RequestHead, Upload
from forebay.model import About, Conflict, Digest, Durability, MiB, Principal
from forebay.protocol import names
from forebay.stores.base import Publication, Store
from forebay.stores.files.store import FileStore
from forebay.stores.memory import MemoryStore

_workers = Workers(threads=2)
"""Shared by all fakes; its threads are started when a fake is first read."""


def make_upload(
    content: bytes = b"",
    *,
    name: str | None = None,
    filename: str | None = None,
    media_type: str | None = None,
    digest: str | None = None,
    principal: Principal | str | None = None,
    headers: Mapping[str, str] | None = None,
    metadata: Mapping[str, str | bytes] | None = None,
    fields: Iterable[tuple[str, str]] = (),
    folder: str | os.PathLike[str] | None = None,
    id: str | None = None,  # noqa: A002 (the field's name)
) -> Upload:
    """An upload to call a handler with. It can be read and moved like a real one.

    Args:
        name: its published path, such as `videos/clip.mp4`. None: not published, as by a route
            without `to`; `move_to` publishes it then.
        filename: the client's name for it; the last part of `name` when left out.
        digest: an algorithm, as in `uploads.receive(digest="sha256")`.
        headers: further fields of the request, `upload.head`.
        metadata: `upload.metadata`, as of tus.
        fields: the text fields of its form, `upload.fields`.
        folder: a folder on disk for the file, so that `upload.path` can be opened; created when
            missing. Without it the file is in memory, and `path` is None.
        media_type, principal, id: those of the upload.

    Raises InvalidName.
    """
    store = _store(folder)
    engine = Engine(Settings(dir=os.fspath(folder or ".")), store)
    engine.context.workers = _workers
    filename = filename or (name.rpartition("/")[2] if name else None)
    upload = Upload(
        id=id or new_id(),
        name=filename or "",
        filename=filename,
        media_type=media_type,
        digests=_digests(content, digest),
        principal=principal if isinstance(principal, Principal) else Principal(principal or ""),
        head=_head(content, filename, media_type, headers or {}),
        about=About(filename, metadata or {}, tuple(fields)),
        engine=engine,
    )
    if isinstance(store, FileStore):
        weakref.finalize(upload, store.close)
    if name is not None:
        staged = store.stage()
        staged.write(memoryview(content), 0)
        how = Publication(names.validate_path(name.split("/")), Conflict.REPLACE)
        upload.set_published(staged.publish(how).stored())
        upload.replaced = False
    else:
        spool = Spool(store.stage, engine.context.budget, MiB)
        spool.write(memoryview(content), 0)
        digests = upload.digests
        upload.set_body(Body(spool, len(content), store=store, workers=_workers, digests=digests))
    return upload


def _store(folder: str | os.PathLike[str] | None) -> Store:
    if folder is None:
        return MemoryStore(numbered=names.numbered)
    os.makedirs(folder, exist_ok=True)
    return FileStore(os.fspath(folder), durability=Durability.RELAXED, numbered=names.numbered)


def _digests(content: bytes, algorithm: str | None) -> tuple[Digest, ...]:
    wanted = () if algorithm is None else (algorithm,)
    hashing = hashing_for((), wanted)
    hashing.update(memoryview(content))
    return hashing.digests(wanted)


def _head(
    content: bytes, filename: str | None, media_type: str | None, headers: Mapping[str, str]
) -> RequestHead:
    fields = {"content-length": str(len(content))}
    if filename is not None:
        fields["x-filename"] = quote(filename)
    if media_type is not None:
        fields["content-type"] = media_type
    fields.update({key.lower(): value for key, value in headers.items()})
    raw = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in fields.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": raw}
    return RequestHead(scope)


Texts = Mapping[str, str | Sequence[str]]
Uploads = Mapping[str, Upload | Sequence[Upload]]


def make_form(
    fields: Texts | None = None, files: Uploads | None = None, *, model: Any = None
) -> Form[Any]:
    """A form to call a handler with.

    A field of `files` with a list stands for a field that is declared for several files. `model`
    is `form.model`, for a route with `fields=`: an instance of that pydantic model.
    """
    texts = [(name, text) for name, given in (fields or {}).items() for text in _each(given)]
    typed = None if model is None else make_fields(type(model))
    return Form(
        MultiDict(texts),
        MultiDict((name, file) for name, given in (files or {}).items() for file in _each(given)),
        lists=[name for name, given in (files or {}).items() if not isinstance(given, Upload)],
        model=model,
        values=None if typed is None else typed.values(model),
    )


def _each(given: Any) -> Sequence[Any]:
    return [given] if isinstance(given, str | Upload) else given
