"""Redirects: the Gateway API cases, and nothing a client sends can lead elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.core.door import Door
from gatekit.core.exchange import Exchange, NoBody
from gatekit.core.headers import Headers
from gatekit.core.paths import ENCODED_SLASH
from gatekit.core.policy import Stage, ValidationError
from gatekit.core.verdict import Reply, render
from gatekit.policies.transform import Redirect

Requests = Callable[..., Exchange]
Settings = dict[str, Any]


def location(reply: Reply | None) -> str:
    assert reply is not None
    assert reply.reason == "redirect"
    [(name, value)] = reply.headers
    assert name == b"location"
    return value.decode("ascii")


def followed(spec: Redirect, exchange: Exchange) -> tuple[int, str]:
    """Status, and the URL a client ends up at."""
    reply = spec.bind().decide(exchange)
    asked = f"{exchange.scheme}://{exchange.authority}{exchange.raw_path.decode()}"
    return reply.status, urljoin(asked, location(reply))


# Name of the conformance test → settings, request path, status, where it leads. The Host is gateway.test.
SIMPLE = [
    ("HTTPRouteRedirectHostAndStatus", {"host": "example.org"}, "/hostname-redirect", 302,
     "http://example.org/hostname-redirect"),
    ("HTTPRouteRedirectHostAndStatus", {"host": "example.org", "status": 301}, "/host-and-status", 301,
     "http://example.org/host-and-status"),
    ("HTTPRouteRedirectPath", {"prefix": ("/original-prefix", "/replacement-prefix")}, "/original-prefix/lemon", 302,
     "http://gateway.test/replacement-prefix/lemon"),
    ("HTTPRouteRedirectPath", {"path": "/full-path-replacement"}, "/full/path/original", 302,
     "http://gateway.test/full-path-replacement"),
    ("HTTPRouteRedirectPath", {"host": "example.org", "prefix": ("/path-and-host", "/replacement-prefix")},
     "/path-and-host", 302, "http://example.org/replacement-prefix"),
    ("HTTPRouteRedirectPath", {"prefix": ("/path-and-status", "/replacement-prefix"), "status": 301},
     "/path-and-status", 301, "http://gateway.test/replacement-prefix"),
    ("HTTPRouteRedirectPath", {"host": "example.org", "path": "/replacement-full"}, "/full-path-and-host", 302,
     "http://example.org/replacement-full"),
    ("HTTPRouteRedirectPath", {"path": "/replacement-full", "status": 301}, "/full-path-and-status", 301,
     "http://gateway.test/replacement-full"),
    ("HTTPRouteRedirectPort", {"port": 8083}, "/port", 302, "http://gateway.test:8083/port"),
    ("HTTPRouteRedirectPort", {"port": 8083, "host": "example.org"}, "/port-and-host", 302,
     "http://example.org:8083/port-and-host"),
    ("HTTPRouteRedirectPort", {"port": 8083, "status": 301}, "/port-and-status", 301,
     "http://gateway.test:8083/port-and-status"),
    ("HTTPRouteRedirectPort", {"port": 8083, "host": "example.org", "status": 302}, "/port-and-host-and-status", 302,
     "http://example.org:8083/port-and-host-and-status"),
    ("HTTPRouteRedirectScheme", {"scheme": "https"}, "/scheme", 302, "https://gateway.test/scheme"),
    ("HTTPRouteRedirectScheme", {"scheme": "https", "host": "example.org"}, "/scheme-and-host", 302,
     "https://example.org/scheme-and-host"),
    ("HTTPRouteRedirectScheme", {"scheme": "https", "status": 301}, "/scheme-and-status", 301,
     "https://gateway.test/scheme-and-status"),
    ("HTTPRouteRedirectScheme", {"scheme": "https", "host": "example.org", "status": 302},
     "/scheme-and-host-and-status", 302, "https://example.org/scheme-and-host-and-status"),
]  # fmt: skip


@pytest.mark.parametrize(("given_settings", "path", "status", "url"), [case[1:] for case in SIMPLE])
def test_tx1_redirect(request_to: Requests, given_settings: Settings, path: str, status: int, url: str) -> None:
    assert followed(Redirect(**given_settings), request_to(path)) == (status, url)


# HTTPRouteRedirectPortAndScheme: the listener the request came through, scheme and port of the filter, the origin it
# leads to. The port of the scheme is left out, which the conformance test allows.
PORT_AND_SCHEME = [
    ("http", "gateway.test", None, None, "http://example.org"),
    ("http", "gateway.test", None, 80, "http://example.org"),
    ("http", "gateway.test", None, 8080, "http://example.org:8080"),
    ("http", "gateway.test", "https", None, "https://example.org"),
    ("http", "gateway.test", "https", 443, "https://example.org"),
    ("http", "gateway.test", "https", 8443, "https://example.org:8443"),
    ("http", "gateway.test:8080", None, None, "http://example.org:8080"),
    ("http", "gateway.test:8080", None, 80, "http://example.org"),
    ("http", "gateway.test:8080", "https", None, "https://example.org"),
    ("https", "example.org", None, None, "https://example.org"),
    ("https", "example.org", None, 443, "https://example.org"),
    ("https", "example.org", None, 8443, "https://example.org:8443"),
    ("https", "example.org", "http", None, "http://example.org"),
    ("https", "example.org", "http", 80, "http://example.org"),
    ("https", "example.org", "http", 8080, "http://example.org:8080"),
]


@pytest.mark.parametrize(("scheme", "host", "to_scheme", "to_port", "origin"), PORT_AND_SCHEME)
def test_tx1_redirect_port_and_scheme(
    request_to: Requests, scheme: str, host: str, to_scheme: Any, to_port: int | None, origin: str
) -> None:
    spec = Redirect(host="example.org", scheme=to_scheme, port=to_port)
    assert followed(spec, request_to("/p", scheme=scheme, host=host)) == (302, f"{origin}/p")


def test_where_only_the_path_changes_the_host_of_the_client_is_not_sent_back(request_to: Requests) -> None:
    reply = Redirect(path="/new", status=308).bind().decide(request_to("/old?q=1&r=%20", host="evil.example"))
    assert location(reply) == "/new?q=1&r=%20"
    assert reply is not None
    assert reply.status == 308
    head, body = render(reply, request_to())
    assert (head.status, body) == (308, b"")


def test_https_for_everybody_passes_those_who_have_it(request_to: Requests) -> None:
    policy = Redirect(scheme="https").bind()
    assert location(policy.decide(request_to("/a?b"))) == "https://gateway.test/a?b"
    assert policy.decide(request_to("/a", scheme="https")) is None
    assert policy.decide(request_to("/a", scheme="https", host="gateway.test:443")) is None
    assert policy.decide(request_to("/a", scheme="wss", kind="websocket")) is None
    assert location(policy.decide(request_to("/a", scheme="ws", kind="websocket"))) == "https://gateway.test/a"


def test_another_prefix_is_not_redirected(request_to: Requests) -> None:
    policy = Redirect(prefix=("/old", "/new")).bind()
    assert policy.decide(request_to("/older/x")) is None
    assert location(policy.decide(request_to("/old/x"))) == "/new/x"


def test_captured_values_go_in_escaped(request_to: Requests) -> None:
    policy = Redirect(path="/u/{name}", host="example.org").bind()
    exchange = request_to("/x", params={"name": "a b/ü%"})
    assert location(policy.decide(exchange)) == "http://example.org/u/a%20b/%C3%BC%25"


def test_a_captured_value_that_makes_a_dot_segment_is_400(request_to: Requests) -> None:
    reply = Redirect(path="/u/.{name}").bind().decide(request_to("/x", params={"name": "."}))
    assert reply is not None
    assert (reply.status, reply.reason) == (400, "transform.bad_path")


def test_what_the_door_refused_is_not_redirected_but_what_no_route_took_is(request_to: Requests) -> None:
    policy = Redirect(scheme="https").bind()
    assert policy.decide(request_to("/%zz")) is None
    assert policy.decide(request_to("/a", host="not a host")) is None
    exchange = request_to("/a")
    exchange.refusal = Reply(404, "router.no_route")
    assert location(policy.decide(exchange)) == "https://gateway.test/a"


def test_a_target_that_is_no_path_is_not_redirected(request_to: Requests) -> None:
    assert Redirect(scheme="https").bind().decide(request_to("*", method="OPTIONS")) is None


def test_a_query_that_a_policy_took_out_stays_out(request_to: Requests) -> None:
    exchange = request_to("/a?key=secret")
    exchange.rewrite(query=b"")
    assert location(Redirect(path="/b").bind().decide(exchange)) == "/b"


def test_two_leading_slashes_name_no_other_host() -> None:
    door = Door(random=None, merge_slashes=False)  # type: ignore[arg-type]
    exchange = Exchange(
        "http", "GET", "http", Headers([(b"host", b"a")]), None, "1.1", {}, door, NoBody(), 0.0
    )  # fmt: skip
    assert door.admit(exchange, b"//evil.example/x", b"") is None
    assert location(Redirect(prefix=("/", "")).bind().decide(exchange)) == "/evil.example/x"


def test_a_path_with_an_allowed_oddity_keeps_it(request_to: Requests) -> None:
    exchange = request_to("/old/a%2fb", allowed_marks=ENCODED_SLASH)
    assert location(Redirect(prefix=("/old", "/new")).bind().decide(exchange)) == "/new/a%2Fb"


TARGETS = st.text(st.sampled_from("/.\\%20aAfF:@?#&=\r\n;~-"), max_size=20).map(lambda text: "/" + text)


@given(TARGETS, st.booleans())
@settings(max_examples=200)
def test_se11_no_request_can_choose_the_host_it_is_sent_to(target: str, merge: bool) -> None:
    path, _, query = target.partition("?")
    door = Door(random=None, merge_slashes=merge, allowed_marks=15)  # type: ignore[arg-type]
    for spec, host in ((Redirect(prefix=("/", "")), "shop.example"), (Redirect(host="example.org"), "example.org")):
        exchange = Exchange(
            "http", "GET", "http", Headers([(b"host", b"shop.example")]), None, "1.1", {}, door, NoBody(), 0.0
        )  # fmt: skip
        exchange.refusal = door.admit(exchange, path.encode(), query.encode())
        reply = spec.bind().decide(exchange)
        if reply is None:
            assert exchange.refusal is not None
            continue
        where = location(reply)
        assert where.isprintable()
        assert urlsplit(urljoin("http://shop.example/asked", where.replace("\\", "/"))).netloc == host


@pytest.mark.parametrize(
    ("given_settings", "why"),
    [
        ({}, "needs a scheme, host, port, path or prefix"),
        ({"status": 301}, "needs a scheme, host, port, path or prefix"),
        ({"path": "/a", "prefix": ("/a", "/b")}, "give one of them"),
        ({"path": "a"}, "starts with a slash"),
        ({"path": "//evil.example"}, "more than one reading"),
        ({"path": "/a?b"}, "no query"),
        ({"path": "/{a"}, "brace"),
        ({"host": "example.org:80"}, "not a host name"),
        ({"host": "Example.org"}, "not a host name"),
        ({"host": "a/b"}, "not a host name"),
        ({"port": 0}, "greater than or equal to 1"),
        ({"scheme": "ftp"}, "'http' or 'https'"),
        ({"scheme": "https", "status": 200}, "301, 302, 303, 307 or 308"),
    ],
)
def test_a_redirect_that_makes_no_sense_is_refused(given_settings: Settings, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Redirect(**given_settings)


def test_a_spec_survives_being_written_and_read() -> None:
    spec = Redirect.shorthand({"prefix": {"from": "/a", "to": "/b"}, "status": 307})
    assert Redirect.model_validate(spec.model_dump()) == spec
    assert Redirect.model_validate(spec.model_dump(by_alias=True)) == spec
    assert spec.placement().stage is Stage.TRANSFORM
    assert "status" in Redirect.model_json_schema()["properties"]
