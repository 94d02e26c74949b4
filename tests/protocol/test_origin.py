"""Invariant 15: no web page of another origin stores files on a loopback server."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import HostRefused, InvalidField, InvalidRequest, OriginRefused
from forebay.protocol.origin import EXPOSED, check, cors, is_preflight, origins_in, preflight

UNSAFE = ["POST", "PUT", "PATCH", "DELETE", "post", "BREW"]


def request(host=b"localhost:8000", **fields):
    headers = [] if host is None else [(b"host", host)]
    for name, value in fields.items():
        headers.append((name.replace("_", "-").encode(), value))
    return headers


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"LOCALHOST:8000",
        b"localhost.",
        b"app.localhost:1",
        b"127.0.0.1",
        b"127.0.0.1:8000",
        b"127.255.0.9:8000",
        b"[::1]",
        b"[::1]:8000",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_loopback_answers_for_loopback_names(host, method):
    check(method, request(host), listening_on_loopback=True)
    check(method, request(host), listening_on_loopback=True, allow_hosts=["example.com"])


@pytest.mark.parametrize(
    "host",
    [
        None,
        b"",
        b"evil.example",
        b"evil.example:8000",
        b"127.0.0.1.evil.example",
        b"localhost.evil.example",
        b"evil-localhost",
        b"notlocalhost",
        b"0.0.0.0:8000",
        b"[::]:8000",
        b"127.1",
        b"127.0.0.256",
        b"10.0.0.1",
    ],
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS", "PUT"])
def test_loopback_answers_for_no_other_host(host, method):
    with pytest.raises(HostRefused):
        check(method, request(host), listening_on_loopback=True)


def test_elsewhere_any_host_will_do_until_some_are_listed():
    for host in (b"evil.example", None):
        check("PUT", request(host), listening_on_loopback=False)
        with pytest.raises(HostRefused):
            check("PUT", request(host), listening_on_loopback=False, allow_hosts=["good.example"])
    with pytest.raises(InvalidField):
        check("GET", [*request(), *request()], listening_on_loopback=True)


@pytest.mark.parametrize(
    "host",
    [
        b"[::1].evil",
        b"127.0.0.1@evil.example",
        b"evil.example/localhost",
        b"localhost:8000:1",
        b"localhost:port",
        b"localhost, evil.example",
        b"localhost evil",
        b"\xff",
        b" localhost",
        b"localhost,localhost",
        b"user:secret@localhost",
        b"localhost:65536",
        b"localhost:-1",
        b"localhost:80a",
        b"[::1",
        b"::1",
        b"[localhost]",
        b"[::1%25eth0]",
        b"[1.2.3.4]",
        b"[]",
        b"local%host",
        b"http://localhost",
        b"localhost?",
        b"localhost#",
        b"\tlocalhost",
        b"localhost\\",
        b"\xc3\xbc.example",
        b"a" * 600,
    ],
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS", "PUT"])
@pytest.mark.parametrize("loopback", [True, False])
def test_a_host_that_is_none_is_malformed_wherever_the_server_listens(host, method, loopback):
    """RFC 9112, section 3.2."""
    with pytest.raises(InvalidRequest):
        check(method, request(host), listening_on_loopback=loopback)


@pytest.mark.parametrize(
    ("pattern", "host", "allowed"),
    [
        ("good.example", b"good.example", True),
        ("Good.Example", b"GOOD.example:8000", True),
        ("good.example:8000", b"good.example:8000", True),
        ("good.example:8000", b"good.example:8001", False),
        ("good.example:8000", b"good.example", False),
        ("good.example", b"a.good.example", False),
        ("good.example", b"goodXexample", False),
        ("*.good.example", b"a.good.example:1", True),
        ("*.good.example", b"good.example", False),
        ("*.good.example", b"evilgood.example", False),
        ("*.good.example:1", b"a.good.example:2", False),
        ("[fd00::1]", b"[fd00::1]:80", True),
        ("*", b"anything", True),
    ],
)
@pytest.mark.parametrize("loopback", [True, False])
def test_hosts_can_be_allowed(pattern, host, allowed, loopback):
    def attempt():
        check("GET", request(host), listening_on_loopback=loopback, allow_hosts=[pattern])

    if allowed:
        attempt()
    else:
        with pytest.raises(HostRefused):
            attempt()


@pytest.mark.parametrize(
    ("scheme", "host", "origin", "own"),
    [
        ("http", b"localhost:8000", b"http://localhost:8000", True),
        ("http", b"LocalHost:8000", b"http://localhost:8000", True),
        ("http", b"h.example", b"http://h.example", True),
        ("http", b"h.example:80", b"http://h.example", True),
        ("http", b"h.example", b"https://h.example", True),  # a proxy added TLS
        ("http", b"h.example:8443", b"https://h.example:8443", True),
        ("https", b"h.example", b"https://h.example", True),
        ("https", b"h.example:443", b"https://h.example", True),
        ("http", b"[::1]:8000", b"http://[::1]:8000", True),
        ("https", b"h.example", b"http://h.example", False),  # anybody on the way can write it
        ("http", b"localhost:8000", b"http://localhost:3000", False),
        ("http", b"localhost:8000", b"http://localhost", False),
        ("http", b"localhost:8000", b"http://127.0.0.1:8000", False),
        ("http", b"localhost:8000", b"http://evil.example", False),
        ("http", b"localhost:8000", b"http://localhost:8000.evil.example", False),
        ("http", b"localhost:8000", b"http://localhost:8000@evil.example", False),
        ("http", b"localhost:8000", b"http://evil.example/http://localhost:8000", False),
        ("http", b"localhost:8000", b"ftp://localhost:8000", False),
        ("http", b"localhost:8000", b"chrome-extension://localhost:8000", False),
        ("http", b"localhost:8000", b"", False),
        ("http", b"localhost:8000", b"localhost:8000", False),
        ("http", b"localhost:8000", b"http://localhost:8000 http://evil.example", False),
        ("http", None, b"http://localhost:8000", False),
    ],
)
def test_a_page_may_store_files_on_its_own_origin_only(scheme, host, origin, own):
    headers = request(host, origin=origin, sec_fetch_site=b"same-origin")
    for method in UNSAFE:
        if own:
            check(method, headers, listening_on_loopback=False, scheme=scheme)
        else:
            with pytest.raises(OriginRefused):
                check(method, headers, listening_on_loopback=False, scheme=scheme)
    for method in ("GET", "HEAD", "OPTIONS"):
        check(method, headers, listening_on_loopback=False, scheme=scheme)


@pytest.mark.parametrize(
    ("sites", "own"),
    [
        ([b"same-origin"], True),  # our own form behind Referrer-Policy: no-referrer
        ([b"same-site"], False),
        ([b"cross-site"], False),
        ([b"none"], False),
        ([], False),
        ([b"same-origin", b"same-origin"], False),
        ([b"same-origin, cross-site"], False),
    ],
)
def test_a_page_without_an_origin_is_ours_if_the_browser_says_so(sites, own):
    headers = [*request(origin=b"null"), *((b"sec-fetch-site", site) for site in sites)]
    if own:
        check("POST", headers, listening_on_loopback=True)
        return
    with pytest.raises(OriginRefused):
        check("POST", headers, listening_on_loopback=True)


@pytest.mark.parametrize(
    ("seen_as", "scheme", "origin", "own"),
    [
        ("files.example", "https", b"https://files.example", True),
        ("files.example:8443", "https", b"https://files.example:8443", True),
        ("files.example", "https", b"https://upstream:8000", False),
        ("files.example", "https", b"http://files.example", False),
        ("files.example", "http", b"http://evil.example", False),
        ("nonsense here", "http", b"http://upstream:8000", True),  # as if it had not been said
    ],
)
def test_an_origin_is_compared_with_the_host_that_the_client_used(seen_as, scheme, origin, own):
    headers = request(b"upstream:8000", origin=origin)
    if own:
        check("PUT", headers, listening_on_loopback=False, scheme=scheme, seen_as=seen_as)
        return
    with pytest.raises(OriginRefused):
        check("PUT", headers, listening_on_loopback=False, scheme=scheme, seen_as=seen_as)


def test_a_page_whose_name_leads_to_loopback_cannot_name_another_host_beside_its_own():
    """It is of the same origin as what it asks, and may send any field (DNS rebinding)."""
    headers = request(b"evil.example", origin=b"http://evil.example")
    for seen_as in ("localhost", "evil.example", "files.example"):
        with pytest.raises(HostRefused):
            check(
                "GET",
                headers,
                listening_on_loopback=True,
                allow_hosts=["files.example"],
                seen_as=seen_as,
            )


@pytest.mark.parametrize(
    ("allowed", "origin", "passes"),
    [
        ("https://app.example", b"https://app.example", True),
        ("https://app.example/", b"https://app.example", True),
        ("HTTPS://App.Example", b"https://app.example", True),
        ("https://app.example:443", b"https://app.example", True),
        ("http://app.example:80", b"http://app.example", True),
        ("http://app.example:443", b"http://app.example:443", True),
        ("http://app.example:443", b"http://app.example", False),
        ("http://app.example", b"https://app.example", False),
        ("https://app.example", b"https://app.example:8443", False),
        ("https://app.example", b"https://app.example.evil", False),
        ("null", b"null", False),
        ("*", b"null", True),
        ("*", b"https://anything.example", True),
    ],
)
def test_origins_can_be_allowed(allowed, origin, passes):
    headers = request(origin=origin, sec_fetch_site=b"cross-site")
    if passes:
        check("PUT", headers, listening_on_loopback=True, allow_origins=[allowed])
    else:
        with pytest.raises(OriginRefused):
            check("PUT", headers, listening_on_loopback=True, allow_origins=[allowed])
    granted = [v for n, v in cors(headers, [allowed]) if n == b"access-control-allow-origin"]
    assert granted == ([b"*" if allowed == "*" else origin] if passes else [])


@pytest.mark.parametrize(
    ("site", "passes"),
    [(b"cross-site", False), (b"same-site", False), (b"same-origin", True), (b"none", True)],
)
def test_without_an_origin_the_browser_s_word_counts(site, passes):
    headers = request(sec_fetch_site=site)
    check("GET", headers, listening_on_loopback=True)
    check("PUT", headers, listening_on_loopback=True, allow_origins=["*"])
    if passes:
        check("PUT", headers, listening_on_loopback=True)
    else:
        with pytest.raises(OriginRefused):
            check("PUT", headers, listening_on_loopback=True)


def test_programs_send_neither_and_pass():
    check("PUT", request(), listening_on_loopback=True)


def test_two_origins_are_refused():
    own = (b"origin", b"http://localhost:8000")
    with pytest.raises(OriginRefused):
        check("PUT", [*request(), own, own], listening_on_loopback=True)


@given(st.binary(max_size=40), st.binary(max_size=40), st.booleans())
def test_noise_passes_or_is_refused_in_a_way_that_is_known(host, origin, loopback):
    headers = request(host, origin=origin)
    with contextlib.suppress(HostRefused, InvalidRequest, OriginRefused):
        check("PUT", headers, listening_on_loopback=loopback)
    for name, value in [*cors(headers, ["*"]), *preflight(headers, ["*"], ["PUT"]).headers]:
        assert all(0x20 <= octet <= 0x7E for octet in name + value)


# --- CORS ---

PAGE = (b"origin", b"https://app.example")
NAMED = ["https://app.example"]
EXPOSE = (b"access-control-expose-headers", EXPOSED.encode())
CREDENTIALS = (b"access-control-allow-credentials", b"true")
VARY = (b"vary", b"Origin")


def test_a_page_of_a_named_origin_can_read_the_answer_with_credentials():
    granted = (b"access-control-allow-origin", b"https://app.example")
    assert cors([PAGE], NAMED) == [VARY, granted, CREDENTIALS, EXPOSE]


@pytest.mark.parametrize("headers", [[], [PAGE], [(b"origin", b"null")], [PAGE, PAGE]])
def test_any_page_can_read_the_answer_but_without_credentials(headers):
    assert cors(headers, ["*"]) == [VARY, (b"access-control-allow-origin", b"*"), EXPOSE]


def test_a_named_origin_beside_any_has_credentials_and_others_have_not():
    granted = (b"access-control-allow-origin", b"https://app.example")
    assert cors([PAGE], ["*", *NAMED]) == [VARY, granted, CREDENTIALS, EXPOSE]
    other = cors([(b"origin", b"https://other.example")], ["*", *NAMED])
    assert other == [VARY, (b"access-control-allow-origin", b"*"), EXPOSE]


def test_what_is_exposed_is_named_once():
    names = EXPOSED.split(", ")
    assert len(names) == len({name.lower() for name in names})
    assert {"Location", "Upload-Offset", "Tus-Resumable", "Repr-Digest", "ETag"} <= set(names)
    assert {"WWW-Authenticate", "Retry-After", "Allow", "Accept-Encoding"} <= set(names)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"origin", b"https://evil.example")],
        [(b"origin", b"null")],
        [(b"origin", b"")],
        [(b"origin", b"https://app.example https://app.example")],
        [(b"origin", b"https://app.example\r")],
        [PAGE, PAGE],
        [PAGE, (b"origin", b"https://evil.example")],
    ],
)
def test_answers_vary_with_the_origin_as_soon_as_one_is_allowed(headers):
    assert cors(headers, []) == []
    assert cors(headers, NAMED) == [VARY]


ASKED = (b"access-control-request-method", b"PATCH")
ASKED_FIELDS = (b"access-control-request-headers", b"tus-resumable,upload-offset")
PREFLIGHT = [PAGE, ASKED, ASKED_FIELDS]
PREFLIGHT_VARY = (
    b"vary",
    b"Access-Control-Request-Method, Access-Control-Request-Headers, "
    b"Access-Control-Request-Private-Network",
)
AGE = (b"access-control-max-age", b"7200")


@pytest.mark.parametrize("allowed", [NAMED, ["*"]])
def test_a_preflight_allows_what_is_asked_and_leaves_to_whom_to_the_way_out(allowed):
    assert is_preflight("OPTIONS", PREFLIGHT)
    answer = preflight(PREFLIGHT, allowed, ["POST", "PATCH"])
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers == (  # no Content-Length: RFC 9110, section 8.6
        PREFLIGHT_VARY,
        (b"access-control-allow-methods", b"POST, PATCH"),
        (b"access-control-allow-headers", b"tus-resumable,upload-offset"),
        AGE,
    )
    assert EXPOSE not in cors(PREFLIGHT, allowed)


@pytest.mark.parametrize("allowed", [[], ["https://other.example"]])
def test_a_preflight_of_another_page_allows_nothing(allowed):
    answer = preflight(PREFLIGHT, allowed, ["PATCH"])
    assert (answer.status, answer.headers) == (204, (PREFLIGHT_VARY,))
    assert cors(PREFLIGHT, allowed) in ([], [VARY])


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (b"PATCH", b"GET, PATCH"),
        (b"DELETE", b"GET, PATCH, DELETE"),  # else no page could read the 405 that tells why
        (b"BREW", b"GET, PATCH, BREW"),
        (b"BREW, TEA", b"GET, PATCH"),
        (b"\xff", b"GET, PATCH"),
        (b"", b"GET, PATCH"),
        (b"X" * 33, b"GET, PATCH"),
    ],
)
def test_a_preflight_passes_for_a_method_that_will_be_refused(asked, allowed):
    headers = [PAGE, (b"access-control-request-method", asked)]
    found = preflight(headers, NAMED, ["GET", "PATCH"]).headers
    assert [v for n, v in found if n == b"access-control-allow-methods"] == [allowed]


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ([], []),
        ([b"x-a"], [b"x-a"]),
        ([b"x-a", b"x-b"], [b"x-a, x-b"]),
        ([b"x-\xff"], []),
        ([b""], []),
        ([b"x-a," * 2000], []),
    ],
)
def test_a_preflight_allows_the_fields_that_are_asked_for(asked, allowed):
    headers = [PAGE, ASKED, *((ASKED_FIELDS[0], value) for value in asked)]
    found = preflight(headers, NAMED, ["PATCH"]).headers
    assert [v for n, v in found if n == b"access-control-allow-headers"] == allowed


def test_a_plain_options_request_is_no_preflight():
    assert not is_preflight("OPTIONS", request())
    assert not is_preflight("OPTIONS", request(origin=b"https://app.example"))
    assert not is_preflight("OPTIONS", [ASKED])
    assert not is_preflight("PATCH", PREFLIGHT)


def test_only_an_allowed_page_may_reach_into_a_private_network():
    asks = [*PREFLIGHT, (b"access-control-request-private-network", b"true")]
    grant = (b"access-control-allow-private-network", b"true")
    assert grant in preflight(asks, NAMED, ["PATCH"]).headers
    assert grant not in preflight(asks, [], ["PATCH"]).headers
    assert grant not in preflight(PREFLIGHT, NAMED, ["PATCH"]).headers


@pytest.mark.parametrize(
    ("head", "origins"),
    [
        (b"PUT / HTTP/1.1\r\nOrigin: https://app.example\r\nX: y", [PAGE]),
        (b"PUT / HTTP/1.1\r\norigin:https://app.example \r\n\r\n", [PAGE]),
        (b"PUT / HTTP/1.1\nORIGIN:\thttps://app.example\n\n", [PAGE]),
        (b"PUT / HTTP/1.1\r\nOrigin: https://app.exa", []),  # it may go on
        (b"PUT / HTTP/1.1\r\nOrigin: https://app.example", []),
        (b"PUT / HTTP/1.1\r\nX-Origin: https://app.example\r\n", []),
        (b"PUT / HTTP/1.1\r\nX: Origin: https://app.example\r\n", []),
        (b"PUT / HTTP/1.1\r\nOrigin: https://app.example x\r\n", []),
        (b"Origin: https://app.example\r\n", []),  # a request line comes first
        (b"", []),
    ],
)
def test_the_origin_of_a_head_that_is_none_is_read_as_far_as_it_came(head, origins):
    assert origins_in(head) == origins


def test_two_origins_of_a_head_that_is_none_are_both_seen():
    line = b"Origin: https://app.example\r\n"
    assert origins_in(b"PUT / HTTP/1.1\r\n" + line + line) == [PAGE, PAGE]
