"""What is only counted, and what is told to whoever listens."""

from __future__ import annotations

from typing import Any

import pytest
from tests.policies.rate_limit.limit_scene import Clock, Store, ask, end, exchange, fields, flush, passes, ports_for

from gatekit.core.events import Event, Events
from gatekit.core.pipeline import Pipeline
from gatekit.core.plan import RoutePlan
from gatekit.core.ports import Ports
from gatekit.policies.rate_limit import LimitExceeded, LimitNear, LimitRule, RateLimit
from gatekit.policies.rate_limit.keys import digest

CALLER = digest("ip:203.0.113.9")
SHARED: dict[str, Any] = {"store": "redis://s", "name": "api"}
both = pytest.mark.parametrize("more", [{}, SHARED], ids=["here", "in a store"])


def told(ports: Ports) -> list[Event]:
    heard: list[Event] = []
    ports.events.subscribe(Event, heard.append)
    return heard


def figures(policy: Any, rule: str = "default") -> dict[str, int]:
    found: dict[str, int] = policy.status()["rules"][rule]
    return {name: value for name, value in found.items() if value}


@both
def test_rl9_in_shadow_it_counts_and_tells_and_refuses_nothing(more: dict[str, Any]) -> None:
    clock = Clock()
    ports = ports_for(clock, Store(clock))
    heard = told(ports)
    policy = RateLimit("2/minute", shadow=True, legacy_headers=True, **more).bind(ports)
    made = exchange()
    assert [ask(policy, made) for _ in range(5)] == [None] * 5
    assert fields(made) == {}
    name = more.get("name", "default")
    assert figures(policy, name) == {"allowed": 2, "near": 1, "shadow_refused": 3}
    assert [one for one in heard if isinstance(one, LimitExceeded)] == [
        LimitExceeded(name, name, CALLER, None, 30.0, True)
    ] * 3


@both
def test_rl9_a_rule_in_shadow_takes_nothing_from_the_others_and_they_nothing_from_it(more: dict[str, Any]) -> None:
    clock = Clock()
    rules = [LimitRule("3/minute", name="real"), LimitRule("1/minute", name="planned", shadow=True)]
    policy = RateLimit(rules=rules, **more).bind(ports_for(clock, Store(clock)))
    made = exchange()
    assert ask(policy, made) is None
    assert fields(made)["ratelimit-policy"] == '"real";q=3;w=60'
    assert [passes(policy) for _ in range(4)] == [True, True, False, False]
    assert figures(policy, "real") == {"allowed": 3, "near": 1, "refused": 2}
    # What was refused anyway is not counted by it.
    assert figures(policy, "planned") == {"allowed": 1, "near": 1, "shadow_refused": 2}


def test_a_rule_in_shadow_never_refuses_for_a_lost_store() -> None:
    clock = Clock()
    store = Store(clock)
    store.down = True
    policy = RateLimit("1/minute", shadow=True, on_error="deny", **SHARED).bind(ports_for(clock, store))
    assert [passes(policy) for _ in range(3)] == [True] * 3
    assert policy.status()["store_errors"] == 3


@both
def test_what_a_rule_in_shadow_took_is_settled_at_the_end_too(more: dict[str, Any]) -> None:
    clock = Clock()
    policy = RateLimit("1 concurrent", shadow=True, **more).bind(ports_for(clock, Store(clock)))
    for _ in range(3):
        made = exchange()
        assert ask(policy, made) is None
        end(policy, made)
        flush(policy)
    assert "shadow_refused" not in figures(policy, more.get("name", "default"))


def test_plans_may_free_somebody_of_a_rule_in_shadow() -> None:
    clock = Clock()
    policy = RateLimit("1/minute", shadow=True, overrides={"client_ip:203.0.113.9": "unlimited"}, **SHARED).bind(
        ports_for(clock, Store(clock))
    )
    assert [passes(policy) for _ in range(3)] == [True] * 3
    assert figures(policy, "api") == {}


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize(("near", "first"), [(0.8, 8), (0.5, 5), (1.0, 10), (0.85, 9)])
def test_rl9_near_is_from_the_share_of_the_limit_on(near: float, first: int, long: bool) -> None:
    clock = Clock()
    given: dict[str, Any] = {"rules": [LimitRule("10/minute", name="default")]} if long else {"limit": "10/minute"}
    policy = RateLimit(near=near, **given).bind(ports_for(clock))
    counts = []
    for _ in range(10):
        passes(policy)
        counts.append(figures(policy).get("near", 0))
    assert counts.index(1) + 1 == first
    # Each request that far on is counted, for a rate.
    assert counts[-1] == 11 - first


@pytest.mark.parametrize("long", [False, True])
def test_rl9_near_is_told_once_in_a_period_for_each_caller(long: bool) -> None:
    clock = Clock()
    ports = ports_for(clock)
    heard = told(ports)
    given: dict[str, Any] = {"rules": [LimitRule("10/minute", name="default")]} if long else {"limit": "10/minute"}
    policy = RateLimit(**given).bind(ports)
    for _ in range(10):
        passes(policy)
    assert heard == [LimitNear("default", "default", CALLER, None, 2)]
    for _ in range(9):
        passes(policy, peer="203.0.113.10")
    assert len(heard) == 2
    clock.now += 60
    for _ in range(10):
        passes(policy)
    assert len(heard) == 3


@pytest.mark.parametrize("long", [False, True])
def test_what_exceeds_is_told_with_its_route_and_without_a_name(long: bool) -> None:
    clock = Clock()
    ports = ports_for(clock)
    heard = told(ports)
    given: dict[str, Any] = {"rules": [LimitRule("1/minute", name="default")]} if long else {"limit": "1/minute"}
    policy = RateLimit(near=1.0, **given).bind(ports)
    route = RoutePlan("orders", "/orders", Pipeline([], events=Events()))
    assert [passes(policy, route=route) for _ in range(3)] == [True, False, False]
    exceeded = LimitExceeded("default", "default", CALLER, "orders", 60.0, False)
    assert heard == [LimitNear("default", "default", CALLER, "orders", 0), exceeded, exceeded]
    assert "203.0.113" not in str(heard)


def test_of_several_limits_each_that_refuses_is_told_and_a_rule_is_counted_once() -> None:
    clock = Clock()
    ports = ports_for(clock)
    heard = told(ports)
    policy = RateLimit("1/minute;1/hour").bind(ports)
    passes(policy)
    passes(policy)
    assert [one.limit for one in heard if isinstance(one, LimitExceeded)] == ["default-minute", "default-hour"]
    assert figures(policy)["refused"] == 1


def test_figures_outlive_a_reload() -> None:
    clock = Clock()
    ports = ports_for(clock)
    spec = RateLimit("5/minute")
    passes(spec.bind(ports))
    passes(RateLimit("5/minute", overrides={"client_ip:10.0.0.0/8": "9/minute"}).bind(ports))
    assert figures(spec.bind(ports)) == {"allowed": 2}
