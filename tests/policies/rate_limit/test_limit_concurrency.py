"""How many at once: taken when a request comes, given back exactly once whatever its end."""

from __future__ import annotations

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

from gatekit.core.identity import Identity
from gatekit.policies.rate_limit import LimitRule, RateLimit
from gatekit.testing import FixedRandom, run

SHARED: dict[str, Any] = {"store": "redis://s", "name": "open"}


@pytest.mark.parametrize("more", [{}, SHARED], ids=["here", "in a store"])
def test_a_request_makes_room_when_it_ends(more: dict[str, Any]) -> None:
    clock = Clock()
    store = Store(clock)
    policy = RateLimit("2 concurrent", **more).bind(ports_for(clock, store))
    first, second = exchange(), exchange()
    assert ask(policy, first) is None
    assert ask(policy, second) is None
    reply = refused(ask(policy, exchange()))
    assert (reply.reason, fields(reply)["retry-after"]) == ("rate_limit.exceeded", "1")
    for _ in range(3):
        # However often it is told.
        end(policy, first)
        flush(policy)
    assert [passes(policy) for _ in range(3)] == [True, False, False]


def test_here_it_is_counted_to_its_end_however_long_that_takes() -> None:
    clock = Clock()
    policy = RateLimit("1 concurrent", hold="10s").bind(ports_for(clock))
    made = exchange()
    assert ask(policy, made) is None
    clock.now += 30 * 86_400
    assert not passes(policy)
    end(policy, made)
    assert passes(policy)


def test_in_a_store_what_a_process_had_that_died_comes_back_after_its_time() -> None:
    clock = Clock()
    store = Store(clock)
    assert passes(RateLimit("1 concurrent", hold="10s", **SHARED).bind(ports_for(clock, store)))
    other = RateLimit("1 concurrent", hold="10s", **SHARED).bind(ports_for(clock, store))
    clock.now += 9
    assert not passes(other)
    clock.now += 2
    assert passes(other)


def test_in_a_store_what_a_living_process_has_is_counted_to_its_end() -> None:
    clock = Clock()
    store = Store(clock)
    policy = RateLimit("1 concurrent", hold="10s", **SHARED).bind(ports_for(clock, store))
    other = RateLimit("1 concurrent", hold="10s", **SHARED).bind(ports_for(clock, store))
    made = exchange()
    assert ask(policy, made) is None
    for _ in range(100):
        clock.now += 0.5
        flush(policy)
        assert not passes(other)
    end(policy, made)
    flush(policy)
    assert passes(other)


def test_each_is_known_by_52_random_bits() -> None:
    class Random(FixedRandom):
        def token(self, size: int) -> bytes:
            return tokens.pop()

    tokens = [bytes(7), b"\xff" * 7]
    clock = Clock()
    store = Store(clock)
    policy = RateLimit("9 concurrent", **SHARED).bind(ports_for(clock, store, random=Random()))
    passes(policy)
    passes(policy)
    # Zero is no mark.
    assert [asks[0].mark for asks in store.asked] == [2**52 - 1, 1]


def test_a_request_costs_one_of_what_may_be_under_way_whatever_else_it_costs() -> None:
    policy = RateLimit("2 concurrent; 100/minute", cost=30).bind(ports_for(Clock()))
    assert [passes(policy) for _ in range(3)] == [True, True, False]


def test_who_is_refused_by_another_rule_holds_nothing() -> None:
    clock = Clock()
    policy = RateLimit(rules=[LimitRule("1/minute"), LimitRule("1 concurrent", by="global")]).bind(ports_for(clock))
    made = exchange()
    assert ask(policy, made) is None
    end(policy, made)
    for _ in range(3):
        denied = exchange()
        assert ask(policy, denied) is not None
        end(policy, denied)
    assert passes(policy, peer="203.0.113.77")


@pytest.mark.parametrize("heard", [False, True], ids=["not executed", "executed"])
def test_what_a_store_may_have_taken_without_saying_so_is_given_back(heard: bool) -> None:
    clock = Clock()
    store = Store(clock)
    policy = RateLimit("1 concurrent", on_error="allow", **SHARED).bind(ports_for(clock, store))
    store.down, store.deaf = not heard, heard
    made = exchange()
    assert ask(policy, made) is None
    store.down = store.deaf = False
    assert (ask(policy, exchange()) is None) is not heard
    end(policy, made)
    flush(policy)
    assert store.charged[0][0].cost == -1
    # Giving back what was never taken gives nobody else's back.
    assert passes(policy) is heard


def test_a_request_that_is_given_up_while_the_store_is_asked_holds_nothing() -> None:
    clock = Clock()

    class Suspends(Store):
        async def take(self, asks: Any) -> Any:
            taken = await super().take(asks)
            if self.hangs:
                await Never()
            return taken

        hangs = True

    class Never:
        def __await__(self) -> Any:
            yield

    store = Suspends(clock)
    policy = RateLimit("1 concurrent", **SHARED).bind(ports_for(clock, store))
    made = exchange()
    pending = policy.decide(made)
    pending.send(None)
    pending.close()
    store.hangs = False
    assert not passes(policy)
    end(policy, made)
    flush(policy)
    assert passes(policy)


def test_a_store_is_told_nothing_of_who_was_refused_and_once_of_who_was_not() -> None:
    clock = Clock()
    store = Store(clock)
    policy = RateLimit("1 concurrent", **SHARED).bind(ports_for(clock, store))
    first, second = exchange(), exchange()
    assert ask(policy, first) is None
    assert ask(policy, second) is not None
    end(policy, second)
    flush(policy)
    assert store.charged == []
    end(policy, first)
    flush(policy)
    flush(policy)
    assert [len(asks) for asks in store.charged] == [1]
    assert policy.status()["charges"]["told"] == 1


def test_without_the_store_it_is_taken_and_given_back_here() -> None:
    clock = Clock()
    store = Store(clock)
    policy = RateLimit("4 concurrent", instances=2, **SHARED).bind(ports_for(clock, store))
    store.down = True
    first, second = exchange(), exchange()
    assert [ask(policy, made) is None for made in (first, second, exchange())] == [True, True, False]
    end(policy, first)
    assert passes(policy)
    assert not passes(policy)


@pytest.mark.parametrize(
    "app",
    [
        pytest.param(lambda made: (200, {}, b"ok"), id="answered"),
        pytest.param(lambda made: (500, {}, b""), id="failed"),
        pytest.param(lambda made: 1 / 0, id="raised"),
    ],
)
def test_it_is_given_back_whatever_the_app_does(app: Any) -> None:
    ports = ports_for(Clock())
    for _ in range(5):
        try:
            status = run([RateLimit("1 concurrent")], exchange(), app, ports=ports).status
        except ZeroDivisionError:
            status = 0
        assert status != 429


def test_a_plan_of_a_store_may_limit_what_is_under_way() -> None:
    who = Identity("ann", tenant="acme", scheme="jwt")
    spec = RateLimit("5/minute", by="tenant", plan="tenant", plans_from="file:///plans.yaml")
    policy = spec.bind(ports_for(Clock(), plans={"acme": "1 concurrent"}))
    made = exchange(identity=who)
    assert ask(policy, made) is None
    assert not passes(policy, identity=who)
    end(policy, made)
    assert passes(policy, identity=who)
