"""Whom a request counts against."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.policies.rate_limit.limit_scene import Clock, Store, ask, exchange, passes, ports_for

from gatekit.core.events import Events
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.core.pipeline import Pipeline
from gatekit.core.plan import RoutePlan
from gatekit.core.verdict import Reply
from gatekit.policies.rate_limit import RateLimit

ANN = Identity("ann", issuer="https://id.example", tenant="t1", client="app", scheme="jwt")
BOB = Identity("bob", issuer="https://id.example", tenant="t1", client="cli", scheme="jwt")
OTHER_ANN = Identity("ann", issuer="https://other.example", tenant="t2", client="app", scheme="jwt")
KEY = Identity("ann", client="reports", scheme="api_key")
OTHER_KEY = Identity("ann", client="imports", scheme="api_key")
ORG_7 = Identity("ann", claims={"org": {"id": 7}, "sub": "ann"}, scheme="jwt")
ORG_8 = Identity("ann", claims={"org": {"id": 8}, "sub": "ann"}, scheme="jwt")
PIPELINE = Pipeline([], events=Events())
ORDERS, ADMIN = RoutePlan("orders", "/orders", PIPELINE), RoutePlan("admin", "/admin", PIPELINE)


@pytest.mark.parametrize(
    ("by", "one", "another", "same"),
    [
        pytest.param("client_ip", {}, {"peer": "203.0.113.10"}, False, id="address"),
        pytest.param("client_ip", {"peer": "2001:db8::1"}, {"peer": "2001:db8::ffff:1"}, True, id="rl4 one /64"),
        pytest.param("client_ip", {"peer": "2001:db8::1"}, {"peer": "2001:db8:0:1::1"}, False, id="rl4 another /64"),
        pytest.param("client_ip", {"peer": "::ffff:203.0.113.9"}, {}, True, id="mapped address"),
        pytest.param("client_ip", {"peer": None}, {"peer": None}, True, id="no address"),
        pytest.param("user", {"identity": ANN}, {"identity": ANN, "peer": "198.51.100.1"}, True, id="user anywhere"),
        pytest.param("user", {"identity": ANN}, {"identity": BOB}, False, id="another user"),
        pytest.param("user", {"identity": ANN}, {"identity": OTHER_ANN}, False, id="same name, other issuer"),
        pytest.param("user", {"identity": ANONYMOUS}, {"identity": ANONYMOUS}, True, id="anonymous by address"),
        pytest.param("user", {"identity": ANONYMOUS}, {"identity": ANONYMOUS, "peer": "::1"}, False, id="anonymous apart"),
        pytest.param("user", {}, {"identity": ANONYMOUS}, True, id="nobody looked"),
        pytest.param("tenant", {"identity": ANN}, {"identity": BOB}, True, id="tenant"),
        pytest.param("tenant", {"identity": ANN}, {"identity": OTHER_ANN}, False, id="another tenant"),
        pytest.param("tenant", {"identity": ANONYMOUS}, {}, True, id="no tenant"),
        pytest.param("client", {"identity": ANN}, {"identity": OTHER_ANN}, True, id="client"),
        pytest.param("client", {"identity": ANN}, {"identity": BOB}, False, id="another client"),
        pytest.param("client", {"identity": ANONYMOUS}, {}, True, id="no client"),
        pytest.param("route", {"route": ORDERS}, {"route": ORDERS, "peer": "::1"}, True, id="route"),
        pytest.param("route", {"route": ORDERS}, {"route": ADMIN}, False, id="another route"),
        pytest.param("route", {}, {"peer": "::1"}, False, id="no route, by address"),
        pytest.param("global", {}, {"peer": "::1"}, True, id="global"),
        pytest.param("header:X-Key", {"headers": {"x-key": "a"}}, {"headers": {"x-key": "a"}, "peer": "::1"}, True, id="header"),
        pytest.param("header:X-Key", {"headers": {"x-key": "a"}}, {"headers": {"x-key": "b"}}, False, id="other header"),
        pytest.param("header:X-Key", {}, {"headers": {"x-key": ""}}, True, id="no header, by address"),
        pytest.param("header:X-Key", {}, {"peer": "::1"}, False, id="no header, other address"),
        pytest.param("header:X-Key", {}, {"headers": {"x-key": "ip:203.0.113.9"}}, False, id="no header meets an address"),
        pytest.param(["user", "route"], {"identity": ANN, "route": ORDERS}, {"identity": ANN, "route": ORDERS}, True, id="both"),
        pytest.param(["user", "route"], {"identity": ANN, "route": ORDERS}, {"identity": ANN, "route": ADMIN}, False, id="one"),
        pytest.param(["tenant", "route"], {"route": ORDERS}, {"route": ORDERS, "peer": "::1"}, False, id="part by address"),
        pytest.param("api_key", {"identity": KEY}, {"identity": KEY, "peer": "::1"}, True, id="api key"),
        pytest.param("api_key", {"identity": KEY}, {"identity": OTHER_KEY}, False, id="another api key of the same subject"),
        pytest.param("api_key", {"identity": ANN}, {}, True, id="a client of another scheme is no api key"),
        pytest.param("method", {}, {"peer": "::1"}, True, id="method"),
        pytest.param("method", {}, {"method": "POST"}, False, id="another method"),
        pytest.param("claim:org.id", {"identity": ORG_7}, {"identity": ORG_7, "peer": "::1"}, True, id="claim"),
        pytest.param("claim:org.id", {"identity": ORG_7}, {"identity": ORG_8}, False, id="another claim"),
        pytest.param("claim:org.id", {"identity": ANN}, {}, True, id="no such claim, by address"),
        pytest.param("claim:sub.id", {"identity": ORG_7}, {}, True, id="a claim within what is no object, by address"),
        pytest.param("param:shop", {"params": {"shop": "a"}}, {"params": {"shop": "a"}, "peer": "::1"}, True, id="parameter"),
        pytest.param("param:shop", {"params": {"shop": "a"}}, {"params": {"shop": "b"}}, False, id="another parameter"),
        pytest.param("param:shop", {}, {"peer": "::1"}, False, id="no parameter, by address"),
        pytest.param(lambda e: e.peer and e.peer[:3], {}, {"peer": "203.0.113.77"}, True, id="function"),
        pytest.param(lambda e: None, {}, {"peer": "203.0.113.77"}, False, id="function without a key"),
    ],
)  # fmt: skip
def test_rl4_whom_a_request_counts_against(by: Any, one: dict[str, Any], another: dict[str, Any], same: bool) -> None:
    policy = RateLimit("1/second", by=by).bind(ports_for(Clock()))
    assert passes(policy, **one)
    assert passes(policy, **another) is not same


parts = st.lists(st.sampled_from(["a", "5:", "key:", ":", "{", "}"]), max_size=4).map("".join)


@given(pairs=st.lists(st.tuples(parts, parts), min_size=2, max_size=2, unique=True))
@example(pairs=[("a", "akey:a"), ("akey:a", "a")])
@settings(max_examples=100, deadline=None)
def test_combined_keys_are_never_mistaken_for_each_other(pairs: list[tuple[str, str]]) -> None:
    clock = Clock()
    store = Store(clock)
    policy = RateLimit(
        "1/second", by=[lambda e: e.header("x-a"), lambda e: e.header("x-b")], name="n", store="redis://s"
    ).bind(ports_for(clock, store))
    for a, b in pairs:
        ask(policy, exchange(headers={"x-a": a, "x-b": b}))
    (first,), (second,) = store.asked
    assert first.key != second.key
    assert first.key.count("{") == first.key.count("}") == 1


def test_rl4_the_address_is_never_the_leftmost_of_x_forwarded_for() -> None:
    policy = RateLimit("1/second").bind(ports_for(Clock()))

    def behind_proxy(claimed: str, peer: str = "10.0.0.1") -> Reply | None:
        forwarded = {"x-forwarded-for": f"{claimed}, 203.0.113.9"}
        return ask(policy, exchange(peer, headers=forwarded, trusted=["10.0.0.0/8"]))

    assert behind_proxy("198.51.100.1") is None
    assert behind_proxy("198.51.100.2") is not None
    assert behind_proxy("127.0.0.1") is not None
    # From a peer that is not trusted, the header says nothing at all.
    assert behind_proxy("198.51.100.3", peer="192.0.2.7") is None
    assert behind_proxy("198.51.100.4", peer="192.0.2.7") is not None


@pytest.mark.parametrize(
    ("by", "given"),
    [
        ("header:Authorization", {"headers": {"authorization": "s3cret"}}),
        ("claim:email", {"identity": Identity("a", claims={"email": "s3cret"}, scheme="jwt")}),
        ("user", {"identity": Identity("s3cret" + "x" * 30_000, scheme="x")}),
        (["user", "client_ip"], {"identity": Identity("s3cret{" + "x" * 30_000, scheme="x")}),
        ("tenant", {"identity": Identity("a", tenant="s3cret}{a", scheme="x")}),
        ("client", {"identity": Identity("a", client="s3cret\r\n", scheme="x")}),
        ("param:shop", {"params": {"shop": "s3cret{" * 100}}),
        ("method", {"method": "s3cret{}"}),
        (lambda e: "s3cret" + "\udc80" * 200, {}),
    ],
    ids=["header", "claim", "user", "user and address", "tenant", "client", "param", "method", "function"],
)
def test_keys_in_a_store_are_short_and_hold_no_credential(by: Any, given: dict[str, Any]) -> None:
    clock = Clock()
    store = Store(clock)
    for rules in (
        {"limit": "9/second", "by": by},
        {"rules": [{"limit": "9/second", "by": by}, {"limit": "9/day", "name": "d"}]},
    ):
        ask(RateLimit(**rules, name="api", store="redis://s").bind(ports_for(clock, store)), exchange(**given))
    for key in [one.key for asks in store.asked for one in asks]:
        assert "s3cret" not in key
        assert len(key) < 250
        assert key.isascii()
        assert key.isprintable()
        assert key.count("{") == key.count("}") == 1


def test_claims_that_are_neither_text_nor_a_whole_number_are_none() -> None:
    values: tuple[Any, ...] = (None, True, 1.5, "", [], {"a": 1})
    for value in values:
        policy = RateLimit("1/second", by="claim:org.id").bind(ports_for(Clock()))
        assert passes(policy, identity=Identity("a", claims={"org": {"id": value}}, scheme="jwt"))
        assert not passes(policy), json.dumps(value)
