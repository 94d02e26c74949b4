"""Which format of a response a client prefers (RFC 9110, section 12)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from forebay.protocol.fields import Headers, every, first

__all__ = ["prefers_html", "quality", "takes_coding", "wants_page"]

MAX_ELEMENTS = 64
"""Elements of one list that are read."""

_MAX_PARAMETERS = 16

_WEIGHT = re.compile(
    r"[ \t]*q[ \t]*=[ \t]*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*", re.IGNORECASE
)


def _weights(headers: Headers, name: bytes) -> dict[str, float]:
    """The weight of each element of a list field (section 12.4.2); 0 when it is malformed."""
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
    """The weight of the first of `candidates` that is listed. The most specific one comes first."""
    return next((weights[name] for name in candidates if name in weights), 0.0)


def prefers_html(headers: Headers) -> bool:
    """Whether to send a listing as a page, and not as JSON.

    A page goes to clients whose Accept prefers HTML, as browsers do (section 12.5.1), and to those
    without Accept: programs that read links from pages (rclone, wget's recursion) send none. JSON
    goes to all others, and so to `*/*`, which curl sends.
    """
    if not every(headers, b"accept"):
        return True
    weights = _weights(headers, b"accept")
    page = quality(weights, ("text/html", "text/*", "*/*"))
    return page > quality(weights, ("application/json", "application/*", "*/*"))


def wants_page(headers: Headers) -> bool:
    """Whether Accept names HTML and not JSON, as when a browser submits a form."""
    accept = (first(headers, b"accept") or b"").lower()
    return b"text/html" in accept and b"json" not in accept


def takes_coding(headers: Headers, coding: str) -> bool:
    """Whether Accept-Encoding (section 12.5.3) names `coding`, weighted no less than identity.

    `*` does not count: programs that send it may not know a rare coding.
    """
    weights = _weights(headers, b"accept-encoding")
    weight = weights.get(coding, 0.0)
    return weight > 0 and weight >= weights.get("identity", 0.0)
