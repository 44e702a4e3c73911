"""Rewrites: the Gateway API cases, one reading of every result, and no way out of a template."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.core.exchange import Exchange
from gatekit.core.paths import ENCODED_SLASH, SEMICOLON, PathRefused, canonical
from gatekit.core.policy import ValidationError
from gatekit.core.verdict import Reply
from gatekit.policies.transform import Pattern, Prefix, RequestHeaders, Rewrite
from gatekit.policies.transform.paths import Template, swapped, wire

Requests = Callable[..., Exchange]
Settings = dict[str, Any]


def rewritten(spec: Rewrite, exchange: Exchange) -> str:
    assert spec.bind().decide(exchange) is None
    return exchange.target_path.decode("ascii")


MODIFY = RequestHeaders(
    set={"X-Header-Set": "set-overwrites-values"},
    add={"X-Header-Add": "header-val-1", "X-Header-Add-Append": "header-val-2"},
    remove=["X-Header-Remove"],
)


@pytest.mark.parametrize(
    ("given_settings", "path", "expected"),
    [
        ({"prefix": ("/prefix/one", "/one")}, "/prefix/one/two", "/one/two"),
        ({"prefix": ("/strip-prefix", "/")}, "/strip-prefix/three", "/three"),
        ({"prefix": ("/strip-prefix", "/")}, "/strip-prefix", "/"),
        ({"path": "/one"}, "/full/one/two", "/one"),
        ({"path": "/test"}, "/full/rewrite-path-and-modify-headers/test", "/test"),
        (
            {"prefix": ("/prefix/rewrite-path-and-modify-headers", "/prefix")},
            "/prefix/rewrite-path-and-modify-headers/one",
            "/prefix/one",
        ),
    ],
)
def test_tx1_rewrite_path(request_to: Requests, given_settings: Settings, path: str, expected: str) -> None:
    exchange = request_to(
        path, headers={"X-Header-Remove": "remove-val", "X-Header-Add-Append": "append-val-1", "X-Header-Set": "set-val"}
    )  # fmt: skip
    MODIFY.bind().decide(exchange)
    assert rewritten(Rewrite(**given_settings), exchange) == expected
    assert exchange.path == path
    headers = exchange.headers
    assert headers.get("x-header-set") == "set-overwrites-values"
    assert headers.get("x-header-add") == "header-val-1"
    assert headers.get_all("x-header-add-append") == ["append-val-1", "header-val-2"]
    assert "x-header-remove" not in headers


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("/one", "one.example.org"),
        ("/two", "example.org"),
        ("/rewrite-host-and-modify-headers", "test.example.org"),
        ("/port", "example.org:8080"),
    ],
)
def test_tx1_rewrite_host(request_to: Requests, path: str, host: str) -> None:
    exchange = request_to(path, host="rewrite.example")
    assert rewritten(Rewrite(host=host), exchange) == path
    assert exchange.target_host == host.encode()
    assert not exchange.rewritten
    assert exchange.host == "rewrite.example"


# The table of ReplacePrefixMatch in the Gateway API specification, and what it leaves open.
PREFIXES = [
    ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
    ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
    ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
    ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
    ("/foo", "/foo", "/xyz", "/xyz"),
    ("/foo/", "/foo", "/xyz", "/xyz/"),
    ("/foo/bar", "/foo", "", "/bar"),
    ("/foo/", "/foo", "", "/"),
    ("/foo", "/foo", "", "/"),
    ("/foo/", "/foo", "/", "/"),
    ("/foo", "/foo", "/", "/"),
    ("/foo/bar", "/", "/xyz", "/xyz/foo/bar"),
    ("/", "/", "/xyz", "/xyz/"),
    ("/foobar", "/foo", "/xyz", "/foobar"),
    ("/fo", "/foo", "/xyz", "/fo"),
    ("/a%20b/c", "/a b", "/ü", "/%C3%BC/c"),
]


@pytest.mark.parametrize(("path", "old", "new", "expected"), PREFIXES)
def test_tx1_replace_prefix_match(request_to: Requests, path: str, old: str, new: str, expected: str) -> None:
    assert rewritten(Rewrite(prefix=(old, new)), request_to(path)) == expected


def test_path_and_host_together_and_a_second_rewrite_on_top(request_to: Requests) -> None:
    exchange = request_to("/a/b?q")
    assert rewritten(Rewrite(prefix=("/a", "/x"), host="inner.example"), exchange) == "/x/b"
    assert rewritten(Rewrite(prefix=("/x", "/y")), exchange) == "/y/b"
    assert rewritten(Rewrite(regex=("/y/(?P<rest>.*)", "/z/{rest}")), exchange) == "/z/b"
    assert (exchange.target_host, exchange.target_query) == (b"inner.example", b"q")


@pytest.mark.parametrize(
    ("template", "params", "expected"),
    [
        ("/v2/orders/{id}", {"id": "7"}, "/v2/orders/7"),
        ("/{a}-{b}", {"a": "1", "b": "2"}, "/1-2"),
        ("/f/{rest}", {"rest": "a/b c"}, "/f/a/b%20c"),
        ("/f/{rest}", {"rest": ""}, "/f/"),
        ("/f/{n}", {"n": "100%"}, "/f/100%25"),
        ("/f/{n}", {"n": "{n}?#"}, "/f/%7Bn%7D%3F%23"),
        ("/ü/{n}", {"n": "é"}, "/%C3%BC/%C3%A9"),
    ],
)
def test_a_template_takes_what_the_route_captured(
    request_to: Requests, template: str, params: dict[str, str], expected: str
) -> None:
    assert rewritten(Rewrite(path=template), request_to("/x", params=params)) == expected


def test_se3_a_kept_escape_is_not_escaped_twice(request_to: Requests) -> None:
    spec = Rewrite(path="/new/{name}")
    exchange = request_to("/old/a%2fb;c", allowed_marks=ENCODED_SLASH | SEMICOLON, params={"name": "a%2Fb;c"})
    assert rewritten(spec, exchange) == "/new/a%2Fb;c"


@pytest.mark.parametrize("value", [".", "./x", "./"])
def test_se3_a_captured_value_cannot_make_a_dot_segment(request_to: Requests, value: str) -> None:
    reply = Rewrite(path="/safe/.{name}").bind().decide(request_to("/x", params={"name": value}))
    assert reply is not None
    assert (reply.status, reply.reason) == (400, "transform.bad_path")


def test_se3_a_rewrite_with_two_readings_is_400_and_goes_nowhere(request_to: Requests) -> None:
    exchange = request_to("/x", params={"name": "a;b"})
    reply = Rewrite(path="/new/{name}").bind().decide(exchange)
    assert reply is not None
    assert (reply.status, reply.reason) == (400, "transform.bad_path")
    assert exchange.target_path == b"/x"


def test_a_template_the_route_does_not_fit_is_an_error_of_the_operator(request_to: Requests) -> None:
    with pytest.raises(LookupError, match="needs 'id', which the route does not capture"):
        Rewrite(path="/{id}").bind().decide(request_to("/x"))


@pytest.mark.parametrize(
    ("pattern", "to", "path", "expected"),
    [
        (r"/v(?P<n>\d+)/(?P<rest>.*)", "/api/{rest}/v{n}", "/v2/a/b", "/api/a/b/v2"),
        (r"/v(?P<n>\d+)/(?P<rest>.*)", "/api/{rest}/v{n}", "/w2/a", "/w2/a"),
        (r"/v\d", "/api", "/v2/more", "/v2/more"),
        (r"/(?P<a>ä)(?P<b>x)?", "/{a}/{b}", "/%C3%A4", "/%C3%A4/"),
    ],
)
def test_a_pattern_of_the_whole_path(request_to: Requests, pattern: str, to: str, path: str, expected: str) -> None:
    assert rewritten(Rewrite(regex=(pattern, to)), request_to(path)) == expected


def test_se3_a_pattern_cannot_make_a_dot_segment(request_to: Requests) -> None:
    reply = Rewrite(regex=("/a(?P<dot>.)b", "/x/.{dot}/y")).bind().decide(request_to("/a.b"))
    assert reply is not None
    assert reply.reason == "transform.bad_path"


def test_what_the_door_refused_is_left_alone(request_to: Requests) -> None:
    exchange = request_to("/%zz")
    assert Rewrite(path="/ok").bind().decide(exchange) is None
    assert exchange.refusal is not None
    exchange = request_to("/x")
    exchange.refusal = Reply(404, "router.no_route")
    assert rewritten(Rewrite(path="/ok"), exchange) == "/ok"


@pytest.mark.parametrize(
    ("given_settings", "why"),
    [
        ({}, "nothing to rewrite"),
        ({"path": "/a", "prefix": ("/a", "/b")}, "give one of them"),
        ({"path": "/a/../b"}, "more than one reading"),
        ({"path": "/a%20b"}, "more than one reading"),
        ({"path": "/a;b"}, "more than one reading"),
        ({"path": "/a}"}, "brace"),
        ({"path": "/{1}"}, "brace"),
        ({"path": "a"}, "starts with a slash"),
        ({"path": "/a#b"}, "no fragment"),
        ({"prefix": ("/a",)}, "give two"),
        ({"prefix": ["a", "/b"]}, "starts with a slash"),
        ({"prefix": {"from": "/a"}}, "Field required"),
        ({"regex": ("(", "/a")}, "not an RE2 pattern"),
        ({"regex": (r"/(?=a)", "/a")}, "not an RE2 pattern"),
        ({"regex": ("/(?P<a>.)", "/{b}")}, "needs 'b', which the pattern does not name"),
        ({"regex": ("/a",)}, "give two"),
        ({"regex": {"pattern": "/a", "to": "b"}}, "starts with a slash"),
        ({"host": "a b"}, "not a host"),
        ({"host": "a:b"}, "not a host"),
    ],
)
def test_a_rewrite_that_makes_no_sense_is_refused(given_settings: Settings, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Rewrite(**given_settings)


def test_the_ways_to_write_a_pair() -> None:
    assert Prefix.model_validate({"from": "/a", "to": "/b"}) == Prefix.model_validate(["/a", "/b"])
    assert Pattern.model_validate({"pattern": "/a", "to": "/b"}) == Pattern.model_validate(("/a", "/b"))
    spec = Rewrite.shorthand({"prefix": {"from": "/a", "to": "/b"}})
    assert spec == Rewrite(prefix=("/a", "/b"))
    assert Rewrite.model_validate(spec.model_dump()) == spec
    assert spec.rewrites()


PIECES = st.text(st.sampled_from("ab./;% ü\\2F5C%"), max_size=8)


@given(PIECES)
@settings(max_examples=200)
def test_a_canonical_path_encodes_to_itself(text: str) -> None:
    try:
        found = canonical(b"/" + "".join(f"%{byte:02X}" for byte in text.encode()).encode())
    except PathRefused:
        return
    assert canonical(wire(found.path)) == found


@given(PIECES, PIECES)
@settings(max_examples=200)
def test_se3_a_filled_template_stays_under_what_it_says(first: str, second: str) -> None:
    path = Template("/safe/{a}/x{b}").fill({"a": first, "b": second})
    if path is not None:
        try:
            assert canonical(path).path.startswith("/safe/")
        except PathRefused:
            pass


SEGMENTS = st.lists(st.sampled_from(["a", "ab", "b", "%C3%BC", ""]), min_size=1, max_size=4)


@given(SEGMENTS, st.sampled_from(["/a", "/ab", "/a/b", "/"]), st.sampled_from(["", "/", "/x", "/x/y/"]))
@settings(max_examples=200)
def test_a_prefix_is_one_of_whole_segments(segments: list[str], old: str, new: str) -> None:
    path = canonical(("/" + "/".join(segments)).encode()).raw
    result = swapped(path, *Prefix.model_validate((old, new)).on_wire())
    wanted = [one for one in old.split("/") if one]
    there = path.decode().split("/")[1:]
    if there[: len(wanted)] != wanted:
        assert result is None
    else:
        rest = there[len(wanted) :]
        kept = [one for one in new.split("/") if one]
        assert result == ("/" + "/".join(kept + rest)).encode()
