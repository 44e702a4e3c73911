"""With a shared store, and without it while it does not answer."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from tests.policies.rate_limit.limit_scene import (
    Clock,
    Store,
    ask,
    end,
    exchange,
    fields,
    flush,
    passes,
    ports_for,
    refused,
)

from gatekit.core.counters import Ask, Limit
from gatekit.core.outcome import Fault
from gatekit.core.verdict import render
from gatekit.policies.rate_limit import LimitRule, RateLimit, StoreBack, StoreLost

SHARED: dict[str, Any] = {"store": "redis://s", "name": "api"}


def keys(store: Store) -> list[str]:
    return [one.key for one in store.asked[-1]]


def test_rl3_a_shared_store_is_asked_once_for_all_rules_and_limits() -> None:
    clock = Clock()
    store = Store(clock)
    rules = [
        LimitRule("1/second;5/hour", by="global", name="a"),
        LimitRule("9/day", name="b", algorithm="fixed_window", cost=2),
    ]
    policy = RateLimit(rules=rules, **SHARED).bind(ports_for(clock, store))
    assert passes(policy)
    assert store.asked == [
        [
            Ask("{api}a|token_bucket:1:1|global", Limit(1, 1.0)),
            Ask("{api}a|token_bucket:5:3600|global", Limit(5, 3_600.0)),
            Ask("{api}b|fixed_window:9:86400|ip:203.0.113.9", Limit(9, 86_400.0, "fixed_window"), 2),
        ]
    ]
    assert not passes(policy)
    assert len(store.asked) == 2


def test_where_all_rules_count_by_the_same_the_caller_is_the_hash_tag_so_that_callers_spread() -> None:
    clock = Clock()
    store = Store(clock)
    policy = RateLimit("1/second;5/hour", **SHARED).bind(ports_for(clock, store))
    passes(policy)
    assert keys(store) == ["{ip:203.0.113.9}api|api|token_bucket:1:1", "{ip:203.0.113.9}api|api|token_bucket:5:3600"]
    rules = [LimitRule("1/second", by="user"), LimitRule("5/hour", by="user", name="quota")]
    passes(RateLimit(rules=rules, **SHARED).bind(ports_for(clock, store)))
    assert {key.partition("}")[0] for key in keys(store)} == {"{ip:203.0.113.9"}


def test_in_a_store_a_limit_goes_by_its_name_wherever_it_stands() -> None:
    clock = Clock()
    store = Store(clock)
    ports = ports_for(clock, store)
    spec = RateLimit("2/hour", **SHARED)
    policies = [spec.bind(ports.owned_by(owner)) for owner in ("gateway", "route:orders")]
    policies.append(spec.bind(ports_for(clock, store)))
    assert [passes(policy) for policy in policies] == [True, True, False]
    assert passes(RateLimit("2/hour", store="redis://s", name="other").bind(ports))
    assert ports.stores.opened == ["redis://s"]  # type: ignore[attr-defined]


def test_with_counters_that_were_given_a_limit_goes_by_its_place_too() -> None:
    clock = Clock()
    store = Store(clock)
    for owner in ("gateway", "route:/orders/{id}"):
        assert passes(
            RateLimit("1/hour", by=["client_ip", "route"], on_error="deny").bind(
                ports_for(clock, counters=store, owner=owner)
            )
        )
    assert all(key.count("{") == key.count("}") == 1 for asks in store.asked for one in asks for key in [one.key])


@pytest.mark.parametrize("given", [{"limit": "100/minute"}, {"limit": "100/minute;200/hour"}], ids=["one", "two"])
def test_rl1_a_shared_store_admits_exactly_as_many(given: dict[str, Any]) -> None:
    clock = Clock()
    store = Store(clock)
    policies = [RateLimit(**given, **SHARED).bind(ports_for(clock, store)) for _ in range(4)]
    assert [passes(policies[number % 4]) for number in range(1_000)].count(True) == 100


@pytest.mark.parametrize(
    ("on_error", "answers", "warned"),
    [
        pytest.param("allow", [None, None, None], "letting everything pass", id="allow"),
        pytest.param("deny", ["rate_limit.unavailable"] * 3, "refusing every request", id="deny"),
        pytest.param("local", [None, None, "rate_limit.exceeded"], "counting in this process", id="local"),
    ],
)
def test_rl5_without_the_store(
    caplog: pytest.LogCaptureFixture, on_error: Any, answers: list[str | None], warned: str
) -> None:
    clock = Clock()
    store = Store(clock)
    store.down = True
    ports = ports_for(clock, store)
    heard: list[Any] = []
    ports.events.subscribe(StoreLost, heard.append)
    ports.events.subscribe(StoreBack, heard.append)
    policy = RateLimit("2/second", on_error=on_error, **SHARED).bind(ports)
    with caplog.at_level(logging.WARNING, "gatekit.rate_limit"):
        replies = [ask(policy, exchange()) for _ in range(3)]
        assert [None if reply is None else reply.reason for reply in replies] == answers
        assert policy.status()["store_lost"] is True
        assert policy.status()["store_errors"] == 3
        clock.now += 30
        store.down = False
        assert passes(policy)
        assert policy.status()["store_lost"] is False
        store.down = True
        ask(policy, exchange())
    lost = StoreLost("api", warned, "connection refused")
    assert heard == [lost, StoreBack("api", 30.0), lost]
    assert [warned in message for message in caplog.messages] == [True, True]


def test_nobody_is_told_of_a_lost_store_who_does_not_listen() -> None:
    clock = Clock()
    store = Store(clock)
    policy = RateLimit("2/second", **SHARED).bind(ports_for(clock, store))
    for down in (True, False, True):
        store.down = down
        passes(policy)
    assert policy.status()["store_errors"] == 2


def test_rl5_each_rule_does_without_the_store_as_it_says() -> None:
    clock = Clock()
    store = Store(clock)
    store.down = True
    rules = [LimitRule("2/minute", name="here"), LimitRule("1/minute", name="open", on_error="allow")]
    policy = RateLimit(rules=rules, **SHARED).bind(ports_for(clock, store))
    made = exchange()
    assert ask(policy, made) is None
    # Only what was counted is told.
    assert fields(made)["ratelimit-policy"] == '"here";q=2;w=60'
    assert [passes(policy) for _ in range(2)] == [True, False]
    closed = LimitRule("1/minute", name="closed", on_error="deny")
    policy = RateLimit(rules=[*rules, closed], **SHARED).bind(ports_for(clock, store))
    assert refused(ask(policy, exchange())).status == 503


@pytest.mark.parametrize(
    ("limit", "cost", "processes", "instances", "passing"),
    [("100/minute", 1, 4, 5, 5), ("100/minute", 1, 1, 1, 100), ("3/minute", 1, 8, 10, 1), ("10/minute", 4, 5, 1, 1)],
)
def test_rl5_counting_here_is_counting_ones_part(
    limit: str, cost: int, processes: int, instances: int, passing: int
) -> None:
    clock = Clock()
    store = Store(clock)
    store.down = True
    policy = RateLimit(limit, cost=cost, instances=instances, **SHARED).bind(
        ports_for(clock, store, processes=processes)
    )
    assert [passes(policy) for _ in range(150)].count(True) == passing


def test_a_price_that_is_more_than_ones_part_takes_all_of_it() -> None:
    clock = Clock()
    store = Store(clock)
    store.down = True
    policy = RateLimit("100/minute", cost=lambda made: 50, instances=10, **SHARED).bind(ports_for(clock, store))
    assert [passes(policy) for _ in range(2)] == [True, False]
    clock.now += 60
    assert passes(policy)


def test_what_was_taken_here_is_settled_here() -> None:
    clock = Clock()
    store = Store(clock)
    policy = RateLimit("1000/minute", charge="response_bytes", **SHARED).bind(ports_for(clock, store))
    store.down = True
    made = exchange()
    assert ask(policy, made) is None
    store.down = False
    end(policy, made, 900)
    flush(policy)
    assert store.charged == []
    store.down = True
    made = exchange()
    assert ask(policy, made) is None
    assert fields(made)["ratelimit"] == '"api";r=99;t=55'


def test_a_503_is_the_gateways_fault_and_says_so() -> None:
    clock = Clock()
    store = Store(clock)
    store.down = True
    made = exchange()
    reply = refused(ask(RateLimit("2/second", on_error="deny", **SHARED).bind(ports_for(clock, store)), made))
    assert (reply.status, fields(reply)) == (503, {"retry-after": "1"})
    assert made.fault is Fault.GATEWAY
    assert (
        b'"type":"https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"' in render(reply, made)[1]
    )


def test_a_store_asks_for_nothing_where_everything_is_unlimited() -> None:
    clock = Clock()
    store = Store(clock)
    policy = RateLimit("unlimited", on_error="deny", **SHARED).bind(ports_for(clock, store))
    store.down = True
    assert passes(policy)
    assert store.asked == []


def test_status_has_what_the_store_says_of_itself_and_jobs_are_passed_on() -> None:
    clock = Clock()
    job = object()

    class Busy(Store):
        def jobs(self) -> list[object]:
            return [job]

    policy = RateLimit("2/second", on_error="deny", **SHARED).bind(ports_for(clock, Busy(clock)))
    assert policy.jobs() == [job]
    assert policy.status()["store"] == {"up": True}
    # Without anything that could be counted here there is nothing to count.
    assert "keys" not in policy.status()
    assert "keys" in RateLimit("2/second", **SHARED).bind(ports_for(clock, Busy(clock))).status()
