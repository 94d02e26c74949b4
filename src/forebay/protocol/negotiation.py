"""Which form of an answer a client would rather have (RFC 9110, section 12)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from forebay.protocol.fields import Headers, every, first

__all__ = ["prefers_html", "quality", "takes_coding", "wants_page"]

MAX_ELEMENTS = 64
"""Elements of one list that are looked at; no client has so many tastes."""

_MAX_PARAMETERS = 16

_WEIGHT = re.compile(
    r"[ \t]*q[ \t]*=[ \t]*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*", re.IGNORECASE
)


def _weights(headers: Headers, name: bytes) -> dict[str, float]:
    """Each element of a list field and its weight (section 12.4.2); junk weighs nothing."""
    found: dict[str, float] = {}
    value = b",".join(every(headers, name)).decode("latin-1")
    for element in value.split(",", MAX_ELEMENTS)[:MAX_ELEMENTS]:
        kind, *parameters = element.split(";", _MAX_PARAMETERS)
        weight = 1.0
        for parameter in parameters:
            if parameter.strip(" \t").lower().startswith("q"):
                match = _WEIGHT.fullmatch(parameter)
                weight = float(match[1]) if match else 0.0
                break
        found.setdefault(kind.strip(" \t").lower(), weight)
    found.pop("", None)
    return found


def quality(weights: dict[str, float], candidates: Iterable[str]) -> float:
    """The weight of the first of `candidates`, the most specific first, that is listed."""
    return next((weights[name] for name in candidates if name in weights), 0.0)


def prefers_html(headers: Headers) -> bool:
    """Whether a listing is better told as a page than as JSON.

    A page for whoever names it and would rather have it than JSON, as a browser's Accept
    (section 12.5.1) does; and for whoever sends no Accept: programs that read links from pages
    (rclone, wget's recursion) send none. JSON for all others, `*/*` included, which curl sends.
    """
    if not every(headers, b"accept"):
        return True
    weights = _weights(headers, b"accept")
    page = quality(weights, ("text/html", "text/*", "*/*"))
    return page > quality(weights, ("application/json", "application/*", "*/*"))


def wants_page(headers: Headers) -> bool:
    """Whether Accept asks for HTML and not for JSON, as that of a browser's form does."""
    accept = (first(headers, b"accept") or b"").lower()
    return b"text/html" in accept and b"json" not in accept


def takes_coding(headers: Headers, coding: str) -> bool:
    """Whether Accept-Encoding (section 12.5.3) names `coding`, and no less than identity.

    A mere `*` does not count: programs send it that could not decode what few servers use.
    """
    weights = _weights(headers, b"accept-encoding")
    weight = weights.get(coding, 0.0)
    return weight > 0 and weight >= weights.get("identity", 0.0)
