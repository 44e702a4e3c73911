"""Header edits both ways: the Gateway API cases, spellings, and what may not be changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.headers import Headers, fold
from gatekit.core.policy import Stage, ValidationError
from gatekit.policies.transform import RequestHeaders, ResponseHeaders
from gatekit.policies.transform.headers import Edit

Requests = Callable[..., Exchange]
Pairs = list[tuple[str, str]]
Settings = dict[str, Any]

SET: Settings = {"set": {"X-Header-Set": "set-overwrites-values"}}
ADD: Settings = {"add": {"X-Header-Add": "add-appends-values"}}
REMOVE: Settings = {"remove": ["X-Header-Remove"]}
MULTIPLE: Settings = {
    "set": {"X-Header-Set-1": "header-set-1", "X-Header-Set-2": "header-set-2"},
    "add": {"X-Header-Add-1": "header-add-1", "X-Header-Add-2": "header-add-2", "X-Header-Add-3": "header-add-3"},
    "remove": ["X-Header-Remove-1", "X-Header-Remove-2"],
}
CASES: Settings = {
    "set": {"X-Header-Set": "header-set"}, "add": {"X-Header-Add": "header-add"}, "remove": ["X-Header-Remove"],
}  # fmt: skip

# HTTPRouteRequestHeaderModifier and HTTPRouteResponseHeaderModifier of the Gateway API have the same seven cases.
MODIFIER = [
    pytest.param(
        SET, [("some-other-header", "val")],
        {"some-other-header": "val", "x-header-set": "set-overwrites-values"}, id="set, not there",
    ),
    pytest.param(
        SET, [("some-other-header", "val"), ("x-header-set", "some-other-value")],
        {"some-other-header": "val", "x-header-set": "set-overwrites-values"}, id="set, there",
    ),
    pytest.param(
        ADD, [("some-other-header", "val")],
        {"some-other-header": "val", "x-header-add": "add-appends-values"}, id="add, not there",
    ),
    pytest.param(
        ADD, [("some-other-header", "val"), ("x-header-add", "some-other-value")],
        {"some-other-header": "val", "x-header-add": "some-other-value,add-appends-values"}, id="add, there",
    ),
    pytest.param(REMOVE, [("x-header-remove", "val")], {}, id="remove"),
    pytest.param(
        MULTIPLE,
        [
            ("x-header-set-2", "set-val-2"), ("x-header-add-2", "add-val-2"), ("x-header-remove-2", "remove-val-2"),
            ("another-header", "another-header-val"),
        ],
        {
            "x-header-set-1": "header-set-1", "x-header-set-2": "header-set-2", "x-header-add-1": "header-add-1",
            "x-header-add-2": "add-val-2,header-add-2", "x-header-add-3": "header-add-3",
            "another-header": "another-header-val",
        },
        id="several",
    ),
    pytest.param(
        CASES,
        [
            ("x-header-set", "original-val-set"), ("x-header-add", "original-val-add"),
            ("x-header-remove", "original-val-remove"), ("another-header", "another-header-val"),
        ],
        {
            "x-header-set": "header-set", "x-header-add": "original-val-add,header-add",
            "another-header": "another-header-val",
        },
        id="case of names",
    ),
]  # fmt: skip


def joined(headers: Headers) -> dict[str, str]:
    """Lines of one name joined by a comma (RFC 9110 section 5.2), as the conformance backend shows them."""
    return {name.decode(): ",".join(headers.get_all(name)) for name, _ in headers if name != b"host"}


@pytest.mark.parametrize(("given_settings", "sent", "expected"), MODIFIER)
def test_tx1_request_header_modifier(
    request_to: Requests, given_settings: Settings, sent: Pairs, expected: dict[str, str]
) -> None:
    exchange = request_to(headers=sent)
    before = list(exchange.headers.raw)
    server_list = exchange.headers.raw
    RequestHeaders(**given_settings).bind().decide(exchange)
    assert joined(exchange.headers) == expected
    assert server_list == before


@pytest.mark.parametrize(("given_settings", "sent", "expected"), MODIFIER)
def test_tx1_response_header_modifier(
    request_to: Requests, given_settings: Settings, sent: Pairs, expected: dict[str, str]
) -> None:
    head = ResponseHead(200, [(name.encode(), value.encode()) for name, value in sent])
    ResponseHeaders(**given_settings).bind().on_response(request_to(), head)
    assert joined(head) == expected


@pytest.mark.parametrize(
    ("when", "changed"),
    [("always", {101, 200, 302, 399, 400, 503}), ("success", {101, 200, 302, 399}), ("failure", {400, 503})],
)
def test_response_headers_by_status(request_to: Requests, when: Any, changed: set[int]) -> None:
    policy = ResponseHeaders(set={"x-a": "1"}, when=when).bind()
    seen = set()
    for status in (101, 200, 302, 399, 400, 503):
        head = ResponseHead(status)
        policy.on_response(request_to(), head)
        if head.raw:
            seen.add(status)
    assert seen == changed


def test_several_values_become_several_lines(request_to: Requests) -> None:
    head = ResponseHead(200, [(b"set-cookie", b"a=1")])
    ResponseHeaders(add={"Set-Cookie": ["b=2", "c=3"]}).bind().on_response(request_to(), head)
    assert head.get_all("set-cookie") == ["a=1", "b=2", "c=3"]


def test_se5_every_spelling_of_a_set_or_removed_request_header_goes(request_to: Requests) -> None:
    spellings = [("X-Tenant", "a"), ("X_Tenant", "b"), ("x.tenant", "c"), ("X-User_Id", "d"), ("x-tenants", "kept")]
    exchange = request_to(headers=spellings)
    RequestHeaders(set={"X-Tenant": "ours"}, remove=["X-User-Id"]).bind().decide(exchange)
    assert exchange.headers.raw[1:] == [(b"x-tenants", b"kept"), (b"x-tenant", b"ours")]


def test_a_response_header_of_another_spelling_stays(request_to: Requests) -> None:
    head = ResponseHead(200, [(b"x_a", b"1"), (b"x-a", b"2")])
    ResponseHeaders(remove=["X-A"]).bind().on_response(request_to(), head)
    assert head.raw == [(b"x_a", b"1")]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Connection", "belongs to one connection"),
        ("keep_alive", "belongs to one connection"),
        ("Transfer-Encoding", "belongs to one connection"),
        ("TE", "belongs to one connection"),
        ("Upgrade", "belongs to one connection"),
        ("Content-Length", "derived from the body"),
        ("Host", r"use Rewrite\(host=...\)"),
        ("no name", "not a header name"),
        ("naïve", "not a header name"),
    ],
)
@pytest.mark.parametrize("how", ["set", "add", "remove"])
def test_what_may_not_be_changed_says_why(name: str, why: str, how: str) -> None:
    given_settings: Settings = {how: [name] if how == "remove" else {name: "x"}}
    with pytest.raises(ValidationError, match=why):
        RequestHeaders(**given_settings)


def test_a_response_may_carry_what_it_likes_under_host() -> None:
    assert ResponseHeaders(set={"Host": "x"}).set == {"Host": "x"}


@pytest.mark.parametrize(
    ("given_settings", "why"),
    [
        ({}, "nothing to do"),
        ({"set": {"x-a": "1"}, "remove": ["X-A"]}, "X-A is named twice"),
        ({"remove": ["x-a", "x-a"]}, "x-a is named twice"),
        ({"set": {"x-a": "1", "X_A": "2"}}, "X_A is named twice"),
        ({"set": {"x-a": "1\r\nx-b: 2"}}, "CR, LF or NUL"),
        ({"add": {"x-a": "caf\u20ac"}}, "Latin-1"),
        ({"set": {"x-a": "1"}, "sett": {}}, "Extra inputs"),
    ],
)
def test_what_cannot_be_done_is_refused_when_it_is_asked_for(given_settings: Settings, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        RequestHeaders(**given_settings)


def test_placement() -> None:
    assert RequestHeaders(remove=["x-a"]).placement().stage is Stage.TRANSFORM


NAMES = st.sampled_from([b"x-a", b"x_a", b"x.a", b"x-b", b"x-ab", b"y"])


@given(st.lists(st.tuples(NAMES, st.sampled_from([b"", b"1", b"2"])), max_size=8))
@settings(max_examples=100)
def test_se5_one_pass_does_the_same_as_one_name_at_a_time(raw: list[tuple[bytes, bytes]]) -> None:
    headers = Headers(list(raw))
    Edit(set={"x-a": "new"}, add={"y": "more"}, remove=["x-b"], folded=True).apply(headers)
    expected = Headers(list(raw))
    expected.remove_folded("x-b")
    expected.remove_folded("x-a")
    expected.append("x-a", "new")
    expected.append("y", "more")
    assert headers.raw == expected.raw
    assert sum(fold(name) == b"x-a" for name, _ in headers.raw) == 1
