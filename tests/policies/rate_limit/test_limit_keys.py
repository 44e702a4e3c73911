"""Whom a request counts against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gatekit.core.events import Events
from gatekit.core.exchange import Exchange
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.core.pipeline import Pipeline
from gatekit.core.plan import RoutePlan
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply
from gatekit.policies.rate_limit import RateLimit

Make = Callable[..., Exchange]
AskFor = Callable[[Any, Exchange], Reply | None]


ANN = Identity("ann", issuer="https://id.example", tenant="t1", client="app", scheme="jwt")
BOB = Identity("bob", issuer="https://id.example", tenant="t1", client="cli", scheme="jwt")
OTHER_ANN = Identity("ann", issuer="https://other.example", tenant="t2", client="app", scheme="jwt")
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
        pytest.param(lambda e: e.peer and e.peer[:3], {}, {"peer": "203.0.113.77"}, True, id="function"),
        pytest.param(lambda e: None, {}, {"peer": "203.0.113.77"}, False, id="function without a key"),
    ],
)  # fmt: skip
def test_whom_a_request_counts_against(
    ports: Ports, exchange: Make, ask: AskFor, by: Any, one: dict[str, Any], another: dict[str, Any], same: bool
) -> None:
    policy = RateLimit("1/second", by=by).bind(ports)
    assert ask(policy, exchange(**one)) is None
    assert (ask(policy, exchange(**another)) is not None) is same


parts = st.lists(st.sampled_from(["a", "5:", "key:", ":"]), max_size=4).map("".join)


@given(pairs=st.lists(st.tuples(parts, parts), min_size=2, max_size=2, unique=True))
@example(pairs=[("a", "akey:a"), ("akey:a", "a")])
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_combined_keys_are_never_mistaken_for_each_other(
    exchange: Make, pairs: list[tuple[str, str]], make_store: Any
) -> None:
    store = make_store()
    first, second = (lambda e: e.header("x-a")), (lambda e: e.header("x-b"))
    policy = RateLimit("1/second", by=[first, second], on_error="deny").bind(Ports(counters=store))
    for a, b in pairs:
        coroutine = policy.decide(exchange(headers={"x-a": a, "x-b": b}))
        with pytest.raises(StopIteration):
            coroutine.send(None)
    assert store.asked[0] != store.asked[1]


def test_rl4_the_address_is_never_the_leftmost_of_x_forwarded_for(ports: Ports, exchange: Make, ask: AskFor) -> None:
    policy = RateLimit("1/second").bind(ports)

    def behind_proxy(claimed: str, peer: str = "10.0.0.1") -> Reply | None:
        forwarded = {"x-forwarded-for": f"{claimed}, 203.0.113.9"}
        return ask(policy, exchange(peer, headers=forwarded, trusted=["10.0.0.0/8"]))

    assert behind_proxy("198.51.100.1") is None
    assert behind_proxy("198.51.100.2") is not None
    assert behind_proxy("127.0.0.1") is not None
    # From a peer that is not trusted, the header says nothing at all.
    assert behind_proxy("198.51.100.3", peer="192.0.2.7") is None
    assert behind_proxy("198.51.100.4", peer="192.0.2.7") is not None


def test_keys_are_short_and_hold_no_credential(make_store: Any, exchange: Make, ask: AskFor) -> None:
    store = make_store()
    ports = Ports(counters=store, owner="gateway")
    secret, long = "s3cret-key", "x" * 30_000
    ask(
        RateLimit("1/second", by="header:Authorization", on_error="deny").bind(ports),
        exchange(headers={"authorization": secret}),
    )
    ask(RateLimit("1/second", by="user", on_error="deny").bind(ports), exchange(identity=Identity(long, scheme="x")))
    ask(
        RateLimit("1/second", by=["user", "client_ip"], on_error="deny").bind(ports),
        exchange(identity=Identity(long, scheme="x")),
    )
    ask(RateLimit("1/second", by=lambda e: "\udc80" * 200, on_error="deny").bind(ports), exchange())
    keys = [asks[0].key for asks in store.asked]
    assert not any(secret in key for key in keys)
    assert max(map(len, keys)) < 250
    assert len(set(keys)) == 4
