"""Which header fields of a response may be repeated (RFC 9110, section 5.3).

A field whose value is a list may. Readers disagree about any other field that comes twice: a
browser refuses a response with two Access-Control-Allow-Origin.
"""

from __future__ import annotations

from forebay.protocol.fields import Headers, every

__all__ = ["MAY_REPEAT", "faults", "merge_vary"]

MAY_REPEAT = frozenset(
    {
        b"accept-patch",
        b"alt-svc",
        b"cache-control",
        b"content-language",
        b"content-security-policy",
        b"content-security-policy-report-only",
        b"link",
        b"permissions-policy",
        b"proxy-authenticate",
        b"server-timing",
        b"set-cookie",
        b"vary",
        b"via",
        b"warning",
        b"www-authenticate",
    }
)
"""Lists that applications send in several fields. Other lists, such as Allow or
Access-Control-Expose-Headers, must come once: not every client joins them.
"""


def faults(status: int, headers: Headers) -> list[str]:
    """What is wrong with the fields of a response, one sentence each; empty when nothing is."""
    names = [name.lower() for name, _ in headers]
    found = [
        f"{name.decode('latin-1')} comes {names.count(name)} times"
        for name in sorted(set(names))
        if names.count(name) > 1 and name not in MAY_REPEAT
    ]
    if b"content-length" in names and b"transfer-encoding" in names:
        found.append("content-length and transfer-encoding exclude each other")
    if b"content-length" in names and (status < 200 or status == 204):
        found.append(f"{status} has no content-length (RFC 9110, section 8.6)")
    return found


def merge_vary(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The fields, with all Vary fields merged into one that has each name once."""
    values = every(headers, b"vary")
    if len(values) < 2:
        return headers
    names: dict[bytes, bytes] = {}
    for name in b",".join(values).split(b","):
        if name.strip():
            names.setdefault(name.strip().lower(), name.strip())
    rest = [field for field in headers if field[0] != b"vary"]
    return [*rest, (b"vary", b"*" if b"*" in names else b", ".join(names.values()))]
