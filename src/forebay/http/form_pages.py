"""Answers to browsers that send a form without a script: plain pages without scripts."""

from __future__ import annotations

from html import escape

from forebay.engine.forms.form import Outcome
from forebay.errors import UploadError
from forebay.protocol import names
from forebay.protocol.status import Answer, phrase

_POLICY = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'")
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;
color-scheme:light dark}}li{{overflow-wrap:anywhere}}</style></head>
<body><h1>{title}</h1>
{content}
</body></html>
"""


_MAX_REPEATED = 255
"""Characters of a name or type of the client's that an answer repeats."""


def short(text: str | None) -> str | None:
    """A text of the client's, cut so that answers stay small."""
    return text if text is None or len(text) <= _MAX_REPEATED else f"{text[:_MAX_REPEATED]}…"


def stored_page(answer: Answer, outcomes: list[Outcome], folder: str, mount: str) -> Answer:
    """The answer as a page: the stored files with their names, and those that were refused."""
    failed = sum(outcome.stored is None for outcome in outcomes)
    title = "Some files were not stored" if failed else "Stored"
    lines = "\n".join(_line(outcome, mount) for outcome in outcomes)
    content = f'<ul>\n{lines}\n</ul>\n<p><a href="{escape(folder)}">Back to the folder</a></p>'
    return _page(answer, title, content)


def _line(outcome: Outcome, mount: str) -> str:
    stored = outcome.stored
    if stored is None:
        assert outcome.error is not None
        return (
            f"<li>{_text(short(outcome.filename) or '')}: not stored. "
            f"{_text(outcome.error.message)} ({outcome.error.code})</li>"
        )
    href = f"{mount}/{names.quote_path(stored.file.name)}"
    note = " (renamed, as the name was taken)" if stored.renamed else ""
    size = f"{stored.file.size:,} bytes"
    return f'<li><a href="{escape(href)}">{_text(stored.file.name)}</a>, {size}{note}</li>'


def error_page(answer: Answer, error: UploadError) -> Answer:
    """The answer to a refused form as a page, with the status it has."""
    content = (
        f"<p>{_text(error.message)}</p>\n<p>Use the browser's Back button to try again.</p>\n"
        f"<p><small>{answer.status} {phrase(answer.status)}, {error.code}</small></p>"
    )
    return _page(answer, "Nothing was stored", content)


def _text(value: str) -> str:
    return escape(value.encode("utf-8", "replace").decode())


_OWN = (b"content-type", b"content-length", b"content-security-policy", b"x-content-type-options")


def _page(answer: Answer, title: str, content: str) -> Answer:
    body = _PAGE.format(title=escape(title), content=content).encode()
    others = tuple(field for field in answer.headers if field[0] not in _OWN)
    headers = (
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"x-content-type-options", b"nosniff"),
        _POLICY,
        *others,
    )
    return Answer(answer.status, headers, body)
