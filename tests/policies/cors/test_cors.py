"""CORS: the cases of the Gateway API, and what the Fetch standard asks for beyond them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.core.events import Events
from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.pipeline import Pipeline
from gatekit.core.policy import Stage, ValidationError, bound
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply, render
from gatekit.policies.cors import Cors
from gatekit.policies.cors.origins import Origins, checked_origin

Requests = Callable[..., Exchange]
Raw = list[tuple[bytes, bytes]]


def answered(spec: Cors, exchange: Exchange, upstream: Raw | None = None) -> tuple[int, ResponseHead, str | None]:
    """The response as a driver would send it: our own reply or the upstream's, through the hooks of this policy."""
    pipeline = Pipeline([bound(spec, Ports())], events=Events())
    step = pipeline.decides[0].call
    assert step is not None
    reply = step(exchange)
    if isinstance(reply, Reply):
        head, body = render(reply, exchange)
        assert body == b""
    else:
        assert reply is None
        head = ResponseHead(200, [] if upstream is None else upstream)
    assert pipeline.respond(exchange, head, 1, []) == (None, 0)
    return head.status, head, reply.reason if isinstance(reply, Reply) else None


CORS_1 = Cors(
    ["https://www.foo.com", "https://*.bar.com"], allow_methods=["GET", "OPTIONS"],
    allow_headers=["x-header-1", "x-header-2"], expose_headers=["x-header-3", "x-header-4"], allow_credentials=True,
    max_age=3600,
)  # fmt: skip
CORS_2 = Cors(["https://www.foo.com"], allow_methods=["*"])
ANY_ORIGIN = Cors(["*"], allow_methods=["PUT"])
ANY_CREDENTIALS = Cors(["*"], allow_methods=["*"], allow_headers=["*"], allow_credentials=True)
ANY_OPEN = Cors(["*"], allow_methods=["*"], allow_headers=["*"])

CORS_1_PREFLIGHT = {
    "allow-methods": "GET, OPTIONS", "allow-headers": "x-header-1, x-header-2",
    "expose-headers": "x-header-3, x-header-4", "max-age": "3600", "allow-credentials": "true",
}  # fmt: skip
ASKED = "x-header-1, x-header-2"

# HTTPRouteCORS, all seventeen: spec, method, origin, requested method, requested headers, status, Access-Control-*
# (None: must not be there; what is not named is not looked at).
CASES = [
    ("preflight, exact origin", CORS_1, "OPTIONS", "https://www.foo.com", "GET", ASKED, 204,
     {"allow-origin": "https://www.foo.com", **CORS_1_PREFLIGHT}),
    ("preflight, wildcard origin", CORS_1, "OPTIONS", "https://www.bar.com", "GET", ASKED, 204,
     {"allow-origin": "https://www.bar.com", **CORS_1_PREFLIGHT}),
    ("preflight, wildcard of two labels", CORS_1, "OPTIONS", "https://xpto.www.bar.com", "GET", ASKED, 204,
     {"allow-origin": "https://xpto.www.bar.com", **CORS_1_PREFLIGHT}),
    ("preflight, other origin", CORS_1, "OPTIONS", "https://foobar.com", "GET", None, 204, {"allow-origin": None}),
    ("simple, exact origin", CORS_1, "GET", "https://www.foo.com", "GET", ASKED, 200,
     {"allow-origin": "https://www.foo.com"}),
    ("simple, wildcard origin", CORS_1, "GET", "https://www.bar.com", "GET", ASKED, 200,
     {"allow-origin": "https://www.bar.com"}),
    ("simple, other origin", CORS_1, "GET", "https://foobar.com", "GET", None, 200, {"allow-origin": None}),
    ("preflight, wildcard methods", CORS_2, "OPTIONS", "https://www.foo.com", "POST", None, 204,
     {"allow-origin": "https://www.foo.com", "allow-methods": "*", "allow-credentials": None}),
    ("preflight, no credentials", CORS_2, "OPTIONS", "https://www.foo.com", "POST", None, 204,
     {"allow-credentials": None}),
    ("preflight, any origin", ANY_ORIGIN, "OPTIONS", "https://foobar.com", "PUT", None, 204,
     {"allow-origin": "*", "allow-methods": "PUT", "allow-credentials": None}),
    ("preflight, any origin with a port", ANY_ORIGIN, "OPTIONS", "https://foobar.com:12345", "PUT", None, 204,
     {"allow-origin": "*", "allow-methods": "PUT", "allow-credentials": None}),
    ("request, any origin with a port", ANY_ORIGIN, "PUT", "https://foobar.com:12345", None, None, 200,
     {"allow-origin": "*"}),
    ("request, any origin", ANY_ORIGIN, "PUT", "https://foobar.com", None, None, 200,
     {"allow-origin": "*", "allow-credentials": None}),
    ("preflight, anything with credentials", ANY_CREDENTIALS, "OPTIONS", "https://other.foo.com", "PUT", ASKED, 204,
     {"allow-origin": "https://other.foo.com", "allow-methods": "PUT", "allow-headers": ASKED,
      "allow-credentials": "true"}),
    ("preflight, anything without credentials", ANY_OPEN, "OPTIONS", "https://other.foo.com", "PUT", ASKED, 204,
     {"allow-origin": "*", "allow-methods": "*", "allow-headers": "*", "allow-credentials": None}),
    ("request, anything with credentials", ANY_CREDENTIALS, "GET", "https://other.foo.com", None, None, 200,
     {"allow-origin": "https://other.foo.com", "allow-credentials": "true"}),
    ("request, anything without credentials", ANY_OPEN, "GET", "https://other.foo.com", None, None, 200,
     {"allow-origin": "*", "allow-credentials": None}),
]  # fmt: skip

# HTTPRouteCORSAllowCredentialsBehavior.
APP = "https://app.example"
WITH, WITHOUT = Cors([APP], allow_credentials=True), Cors([APP])
CREDENTIALS = [
    ("credentials off", WITHOUT, "GET", APP, None, None, 200, {"allow-credentials": None}),
    ("credentials on, other origin", WITH, "GET", "http://not-app.example", None, None, 200,
     {"allow-credentials": None, "allow-origin": None}),
    ("credentials on", WITH, "GET", APP, None, None, 200, {"allow-credentials": "true", "allow-origin": APP}),
]  # fmt: skip
COLUMNS = ("spec", "method", "origin", "asked_method", "asked_headers", "status", "expected")


@pytest.mark.parametrize(COLUMNS, [pytest.param(*case[1:], id=case[0]) for case in [*CASES, *CREDENTIALS]])
def test_tx1_se11_cors(
    request_to: Requests,
    spec: Cors,
    method: str,
    origin: str,
    asked_method: str | None,
    asked_headers: str | None,
    status: int,
    expected: dict[str, str | None],
) -> None:
    headers = {"Origin": origin, "Cookie": "sid=abc123", "Authorization": "Bearer test"}
    if asked_method is not None:
        headers["Access-Control-Request-Method"] = asked_method
    if asked_headers is not None:
        headers["Access-Control-Request-Headers"] = asked_headers
    found, head, _ = answered(spec, request_to("/cors", method=method, headers=headers))
    assert found == status
    for name, value in expected.items():
        assert head.get_all(f"access-control-{name}") == ([] if value is None else [value])


def test_there_are_seventeen() -> None:
    assert len(CASES) == 17


def preflight(origin: str, method: str = "GET", **more: str) -> dict[str, str]:
    return {"Origin": origin, "Access-Control-Request-Method": method, **more}


def test_a_preflight_is_answered_here_with_its_reason(request_to: Requests) -> None:
    _, head, reason = answered(CORS_2, request_to(method="OPTIONS", headers=preflight("https://www.foo.com")))
    assert reason == "cors.preflight"
    assert head.get("access-control-max-age") == "600"
    assert head.get_all("vary") == ["Origin, Access-Control-Request-Method, Access-Control-Request-Headers"]
    _, head, reason = answered(CORS_2, request_to(method="OPTIONS", headers=preflight("https://evil.example")))
    assert reason == "cors.origin_not_allowed"
    assert [name for name, _ in head.raw] == [b"vary"]


@pytest.mark.parametrize("headers", [{}, {"Origin": "https://www.foo.com"}, {"Access-Control-Request-Method": "GET"}])
def test_other_options_requests_pass(request_to: Requests, headers: dict[str, str]) -> None:
    assert answered(CORS_2, request_to(method="OPTIONS", headers=headers))[2] is None


def test_the_headers_of_the_upstream_are_replaced_never_doubled(request_to: Requests) -> None:
    own = [
        (b"access-control-allow-origin", b"*"), (b"access-control-allow-origin", b"https://a"),
        (b"access-control-allow-credentials", b"true"), (b"access-control-expose-headers", b"x"),
        (b"access-control-allow-private-network", b"true"), (b"x", b"1"),
    ]  # fmt: skip
    _, head, _ = answered(CORS_1, request_to(headers={"Origin": "https://www.foo.com"}), list(own))
    assert head.raw == [
        (b"x", b"1"), (b"access-control-allow-origin", b"https://www.foo.com"),
        (b"access-control-allow-credentials", b"true"), (b"access-control-expose-headers", b"x-header-3, x-header-4"),
        (b"vary", b"Origin"),
    ]  # fmt: skip
    for headers in ({"Origin": "https://evil.example"}, {}):
        _, head, _ = answered(CORS_1, request_to(headers=headers), list(own))
        assert head.raw == [(b"x", b"1"), (b"vary", b"Origin")]


@pytest.mark.parametrize(
    ("spec", "there", "after"),
    [
        (CORS_2, [], ["Origin"]),
        (CORS_2, ["Accept-Encoding"], ["Accept-Encoding", "Origin"]),
        (CORS_2, ["Accept, ORIGIN"], ["Accept, ORIGIN"]),
        (CORS_2, ["Accept", "origin"], ["Accept", "origin"]),
        (CORS_2, ["*"], ["*"]),
        (CORS_2, ["X-Origin"], ["X-Origin", "Origin"]),
        (ANY_OPEN, ["Accept"], ["Accept"]),
        (ANY_CREDENTIALS, [], ["Origin"]),
    ],
)
def test_vary_is_added_once_and_where_it_is_due(
    request_to: Requests, spec: Cors, there: list[str], after: list[str]
) -> None:
    for headers in ({}, {"Origin": "https://www.foo.com"}):
        upstream = [(b"vary", value.encode()) for value in there]
        assert answered(spec, request_to(headers=headers), upstream)[1].get_all("vary") == after


@pytest.mark.parametrize(
    ("asked_method", "asked_headers", "methods", "headers"),
    [
        ("PUT", "x-a, x-b", ["PUT"], ["x-a, x-b"]),
        ("PUT", None, ["PUT"], []),
        ("no method", "x-a", [], ["x-a"]),
        ("PUT", "x-a; x-b", ["PUT"], []),
        ("P" * 65, "x" * 2049, [], []),
    ],
)
def test_only_what_is_well_formed_is_echoed(
    request_to: Requests, asked_method: str, asked_headers: str | None, methods: list[str], headers: list[str]
) -> None:
    sent = preflight("https://a.example", asked_method)
    if asked_headers is not None:
        sent["Access-Control-Request-Headers"] = asked_headers
    _, head, _ = answered(ANY_CREDENTIALS, request_to(method="OPTIONS", headers=sent))
    assert head.get_all("access-control-allow-methods") == methods
    assert head.get_all("access-control-allow-headers") == headers


def test_null_is_never_given_credentials(request_to: Requests) -> None:
    for spec, expected in ((ANY_CREDENTIALS, []), (ANY_OPEN, ["*"])):
        _, head, _ = answered(spec, request_to(headers={"Origin": "null"}))
        assert head.get_all("access-control-allow-origin") == expected
        assert "access-control-allow-credentials" not in head


def test_a_websocket_handshake_is_no_cors_request(request_to: Requests) -> None:
    exchange = request_to(kind="websocket", scheme="ws", headers={"Origin": "https://www.foo.com"})
    head = ResponseHead(101)
    CORS_2.bind().on_response(exchange, head)
    assert head.raw == []


# -- origins


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("https://App.Example", "https://app.example"),
        ("https://a.example:443", "https://a.example"),
        ("http://a.example:80", "http://a.example"),
        ("http://a.example:443", "http://a.example:443"),
        ("https://*.a.example:8443", "https://*.a.example:8443"),
        ("http://[2001:DB8::1]:8080", "http://[2001:db8::1]:8080"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("*", "*"),
    ],
)
def test_an_origin_is_written_as_browsers_write_it(text: str, canonical: str) -> None:
    assert Cors([text]).allow_origins == (canonical,)


@pytest.mark.parametrize(
    ("origins", "asked", "allowed"),
    [
        (["https://*.a.example"], "https://x.a.example", True),
        (["https://*.a.example"], "https://x.y.a.example", True),
        (["https://*.a.example"], "https://a.example", False),
        (["https://*.a.example"], "https://.a.example", False),
        (["https://*.a.example"], "https://x..a.example", False),
        (["https://*.a.example"], "http://x.a.example", False),
        (["https://*.a.example"], "https://x.a.example:8443", False),
        (["https://*.a.example"], "https://xa.example", False),
        (["https://*.a.example"], "https://x.aXexample", False),
        (["https://*.a.example"], "https://evil.example/.a.example", False),
        (["https://*.a.example"], "https://evil.example#.a.example", False),
        (["https://*.a.example"], "https://x.a.example.evil.example", False),
        (["https://*.a.example:8443"], "https://x.a.example:8443", True),
        (["https://a.example"], "https://a.example.evil.example", False),
        (["https://a.example"], "HTTPS://a.example", False),
        (["https://a.example"], "https://a.example, https://a.example", False),
    ],
)
def test_which_origins_are_meant(origins: list[str], asked: str, allowed: bool) -> None:
    assert Origins(Cors(origins).allow_origins).allow(asked.encode()) is allowed


@given(st.text(st.sampled_from("abx.-:/@#%*\n"), max_size=16))
@settings(max_examples=200)
def test_a_wildcard_allows_subdomains_and_nothing_else(middle: str) -> None:
    allowed = Origins([checked_origin("https://*.a.example")]).allow(f"https://{middle}a.example".encode())
    labels = middle.split(".")
    assert allowed == (labels.pop() == "" and bool(labels) and all(re.fullmatch("[a-z0-9_-]+", one) for one in labels))


@pytest.mark.parametrize(
    ("given_settings", "why"),
    [
        ({"allow_origins": []}, "at least 1 item"),
        ({"allow_origins": ["null"]}, "every sandboxed page"),
        ({"allow_origins": ["https://a.example/"]}, "is no origin"),
        ({"allow_origins": ["a.example"]}, "is no origin"),
        ({"allow_origins": ["https://*"]}, "is no origin"),
        ({"allow_origins": ["https://a.*.example"]}, "is no origin"),
        ({"allow_origins": ["https://*.[::1]"]}, "is no origin"),
        ({"allow_origins": ["*", "https://a.example"]}, "what else is named"),
        ({"allow_origins": ["*"], "allow_methods": ["*", "GET"]}, "what else is named"),
        ({"allow_origins": ["*"], "allow_headers": ["x a"]}, "not a header name"),
        ({"allow_origins": ["*"], "allow_credentials": True, "expose_headers": ["*"]}, "list the headers"),
        ({"allow_origins": ["*"], "max_age": -1}, "greater than or equal to 0"),
        ({"allow_origins": ["*"], "max_age": 86401}, "less than or equal to 86400"),
    ],
)
def test_what_makes_no_sense_is_refused(given_settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Cors(**given_settings)


def test_methods_are_in_capitals() -> None:
    assert Cors(["*"], allow_methods=["get", "patch"]).allow_methods == ("GET", "PATCH")


def test_where_it_stands_and_how_a_file_has_it() -> None:
    assert CORS_2.placement().stage is Stage.PREFLIGHT
    assert Cors.shorthand(["https://a.example"]) == Cors(["https://a.example"])
    assert Cors.model_validate(CORS_1.model_dump()) == CORS_1
