"""What is settled at the end: bytes, what an upstream reports, and how shared stores hear of it."""

from __future__ import annotations

from contextlib import nullcontext
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
    step,
)

from gatekit.core.counters import Ask, Limit
from gatekit.core.head import ResponseHead
from gatekit.errors import StoreUnavailable
from gatekit.policies.rate_limit import LimitRule, RateLimit
from gatekit.policies.rate_limit.charge import BATCH, FLUSH, MAX_WAITING, RETRY, Charges

HOUR = Limit(100, 3600.0)
OPEN = Limit(9, 60.0, "concurrency")


def left(policy: Any, **given: Any) -> int:
    (entry,) = step(policy.admin().peek(client_ip="203.0.113.9", **given))
    found: int = entry["remaining"]
    return found


@pytest.mark.parametrize("shared", [False, True], ids=["here", "in a store"])
def test_rl9_bytes_are_charged_when_they_were_sent_and_a_debt_is_paid_back_before_anything_passes(shared: bool) -> None:
    clock = Clock()
    store = Store(clock)
    more: dict[str, Any] = {"store": "redis://s", "name": "bytes"} if shared else {}
    policy = RateLimit("10KiB/minute", charge="response_bytes", **more).bind(ports_for(clock, store))
    made = exchange()
    assert ask(policy, made) is None
    assert fields(made)["ratelimit-policy"].endswith(';q=10240;qu="content-bytes";w=60')
    assert left(policy) == 10_239
    end(policy, made, 4_096)
    flush(policy)
    assert left(policy) == 6_144
    # While something is left, the next one passes however long its response will be.
    assert ask(policy, made) is None
    end(policy, made, 6_144 + 10_240)
    flush(policy)
    reply = refused(ask(policy, exchange()))
    # All of the minute's bytes are owed, and one more has to be there.
    assert fields(reply)["retry-after"] == "61"
    clock.now += 60
    assert not passes(policy)
    clock.now += 1
    assert passes(policy)


def test_a_response_without_bytes_gives_back_what_was_set_aside() -> None:
    policy = RateLimit("10KiB/minute", charge="response_bytes", cost=1024).bind(ports_for(Clock()))
    made = exchange()
    assert ask(policy, made) is None
    assert left(policy) == 9_216
    end(policy, made, 0)
    assert left(policy) == 10_240


def test_with_a_cost_of_nothing_what_is_owed_still_refuses() -> None:
    policy = RateLimit("100/minute", charge="response_bytes", cost=0).bind(ports_for(Clock()))
    made = exchange()
    assert ask(policy, made) is None
    end(policy, made, 101)
    assert not passes(policy)


def test_what_is_set_aside_bounds_how_many_pass_before_the_first_has_ended() -> None:
    policy = RateLimit("10KiB/minute", charge="response_bytes", cost=4096).bind(ports_for(Clock()))
    assert [passes(policy) for _ in range(4)] == [True, True, False, False]


def test_who_was_refused_pays_nothing() -> None:
    policy = RateLimit("10/minute", charge="response_bytes", cost=10).bind(ports_for(Clock()))
    assert passes(policy)
    made = exchange()
    assert ask(policy, made) is not None
    end(policy, made, 1_000_000)
    assert left(policy) == 0


def test_it_is_settled_once() -> None:
    policy = RateLimit("100/minute", charge="response_bytes").bind(ports_for(Clock()))
    made = exchange()
    ask(policy, made)
    for _ in range(3):
        end(policy, made, 11)
    assert left(policy) == 89


def test_the_same_spec_in_two_places_of_one_pipeline_settles_twice() -> None:
    ports = ports_for(Clock())
    spec = RateLimit("100/minute", charge="response_bytes")
    outer, inner = spec.bind(ports.owned_by("a")), spec.bind(ports.owned_by("b"))
    made = exchange()
    ask(outer, made)
    ask(inner, made)
    end(inner, made, 11)
    end(outer, made, 11)
    assert (left(outer), left(inner)) == (89, 89)


@pytest.mark.parametrize(
    ("reported", "remaining", "unreadable"),
    [
        ("30", 70, 0),
        (" 30 ", 70, 0),
        ("0", 100, 0),
        ("1000", 0, 0),
        ("-5", 99, 1),
        ("3.5", 99, 1),
        ("1e9", 99, 1),
        ("", 99, 1),
        ("30, 40", 99, 1),
        ("²", 99, 1),
        ("9" * 13, 99, 1),
        ("9" * 400, 99, 1),
    ],
)
def test_what_the_upstream_reports_is_charged_if_it_is_a_number_and_shown_to_nobody(
    reported: str, remaining: int, unreadable: int
) -> None:
    policy = RateLimit("100/minute", charge="header:X-Units").bind(ports_for(Clock()))
    made = exchange()
    ask(policy, made)
    head = end(policy, made, headers={"x-units": reported, "x-other": "1"})
    assert head.raw == [(b"x-other", b"1")]
    assert left(policy) == remaining
    assert policy.status()["rules"]["default"]["unreadable_charges"] == unreadable


def test_an_upstream_that_reports_nothing_or_twice_is_charged_what_was_taken() -> None:
    policy = RateLimit("100/minute", charge="header:X-Units", cost=2).bind(ports_for(Clock()))
    for headers in ({}, {"x-units": "7"}):
        made = exchange()
        ask(policy, made)
        head = end(policy, made, headers=headers)
        assert head.raw == []
    assert left(policy) == 91
    made = exchange()
    ask(policy, made)
    twice = ResponseHead(200, [(b"x-units", b"7"), (b"x-units", b"7")])
    policy.on_response(made, twice)
    assert twice.raw == []
    assert policy.status()["rules"]["default"]["unreadable_charges"] == 1


def test_what_is_reported_is_hidden_from_whoever_was_refused_as_well() -> None:
    policy = RateLimit("1/minute", charge="header:X-Units").bind(ports_for(Clock()))
    assert passes(policy)
    made = exchange()
    assert ask(policy, made) is not None
    assert end(policy, made, headers={"x-units": "5"}).raw == []


def test_a_charge_may_be_a_function_of_exchange_and_outcome() -> None:
    calls = []

    def charge(made: Any, outcome: Any) -> int:
        calls.append((made.method, outcome.status))
        return 10

    policy = RateLimit("100/minute;1000/hour", charge=charge).bind(ports_for(Clock()))
    made = exchange(method="POST")
    ask(policy, made)
    end(policy, made)
    assert [one["remaining"] for one in step(policy.admin().peek(client_ip="203.0.113.9"))] == [90, 990]
    assert calls == [("POST", 200)]


@pytest.mark.parametrize("charge", [None, -1, 2.5, True, "7"])
def test_a_charge_that_is_no_whole_number_is_an_error_and_what_was_under_way_is_given_back_first(charge: Any) -> None:
    spec = RateLimit("100/minute;1 concurrent", charge=lambda made, outcome: charge)
    policy = spec.bind(ports_for(Clock()))
    made = exchange()
    assert ask(policy, made) is None
    with pytest.raises(ValueError, match="a charge is a whole number from 0"):
        end(policy, made)
    assert passes(policy)


def test_rules_of_one_policy_are_charged_each_in_their_own_way() -> None:
    rules = [
        LimitRule("1000/minute", name="bytes", charge="response_bytes"),
        LimitRule("1000/minute", name="units", charge="header:x-units"),
        LimitRule("1000/minute", name="plain"),
    ]
    policy = RateLimit(rules=rules).bind(ports_for(Clock()))
    made = exchange()
    ask(policy, made)
    end(policy, made, 100, {"x-units": "50"})
    assert [one["remaining"] for one in step(policy.admin().peek(client_ip="203.0.113.9"))] == [900, 950, 999]


# -- telling a shared store


def charges(clock: Clock, store: Store, *, tagged: bool = False) -> Charges:
    return Charges(store, clock, nullcontext, tagged=tagged)


def test_a_store_hears_of_charges_within_fifty_milliseconds_in_one_call() -> None:
    clock = Clock()
    store = Store(clock)
    spec = RateLimit("1000/minute", charge="response_bytes", store="redis://s", name="bytes")
    ports = ports_for(clock, store)
    policies = [spec.bind(ports), spec.bind(ports.owned_by("another"))]
    jobs = {job.key: job for policy in policies for job in policy.jobs()}
    (job,) = jobs.values()
    assert job.interval() == job.first_after == FLUSH <= 0.05
    for policy, peer, sent in zip(
        policies * 2, ("192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2"), (5, 6, 7, 1), strict=True
    ):
        made = exchange(peer)
        ask(policy, made)
        end(policy, made, sent)
    assert store.charged == []
    step(job.run())
    # One byte was set aside for each; where it was one byte there is nothing to tell.
    assert [[ask.cost for ask in asks] for asks in store.charged] == [[9, 6]]
    assert policies[0].status()["charges"] == {"waiting": 0, "told": 2, "lost": 0, "under_way": 0}
    step(job.run())
    assert len(store.charged) == 1


def test_a_store_that_does_not_answer_loses_what_it_may_have_counted_and_is_told_the_rest_later() -> None:
    clock = Clock()
    store = Store(clock)
    queue = charges(clock, store)
    for number in range(BATCH + 5):
        queue.charge(Ask(f"key {number}", HOUR, 2))
    store.down = True
    step(queue.flush())
    assert (queue.lost, queue.status()["waiting"], queue.pause) == (BATCH, 5, RETRY)
    queue.charge(Ask("key 204", HOUR, 2))
    store.down = False
    step(queue.flush())
    assert queue.pause == FLUSH
    assert sorted(ask.cost for ask in store.charged[0]) == [2, 2, 2, 2, 4]


def test_what_waits_is_bounded_and_what_is_lost_is_counted() -> None:
    clock = Clock()
    queue = charges(clock, Store(clock))
    for number in range(MAX_WAITING + 3):
        queue.charge(Ask(f"key {number}", HOUR, 2))
    queue.charge(Ask("key 1", HOUR, 2))
    for number in range(MAX_WAITING + 4):
        queue.release(Ask(f"key {number}", OPEN, 1, number + 1))
    assert queue.status() == {"waiting": 2 * MAX_WAITING, "told": 0, "lost": 7, "under_way": 0}


def test_one_call_has_no_key_twice_and_where_tags_count_one_tag() -> None:
    clock = Clock()
    store = Store(clock)
    for tagged, calls in ((False, 2), (True, 3)):
        queue, store.charged = charges(clock, store, tagged=tagged), []
        for mark, key in enumerate(("{a}x", "{a}x", "{a}y", "{b}x"), 1):
            queue.release(Ask(key, OPEN, 1, mark))
        step(queue.flush())
        assert len(store.charged) == calls
        tags = [{ask.key[:3] for ask in asks} for asks in store.charged]
        assert not tagged or all(len(one) == 1 for one in tags)


def test_what_is_given_back_is_told_until_it_was_heard_or_is_over_by_itself() -> None:
    clock = Clock()
    store = Store(clock)
    queue = charges(clock, store)
    queue.release(Ask("a", OPEN, 1, 1))
    store.down = True
    for _ in range(3):
        step(queue.flush())
        assert queue.status()["waiting"] == 1
    clock.now += 59
    queue.release(Ask("b", OPEN, 1, 2))
    clock.now += 2
    step(queue.flush())
    assert queue.status() == {"waiting": 1, "told": 0, "lost": 0, "under_way": 0}
    store.down = False
    step(queue.flush())
    assert [[(ask.key, ask.cost, ask.mark) for ask in asks] for asks in store.charged] == [[("b", -1, 2)]]


def test_what_is_under_way_for_long_is_told_anew_before_the_store_gives_it_up() -> None:
    clock = Clock()
    store = Store(clock)
    queue = charges(clock, store)
    held = Ask("a", Limit(1, 60.0, "concurrency"), 1, 7)
    store.counters.take_now([held])
    queue.hold(held)
    for tick in range(300):
        clock.now += 0.5
        store.down = tick in (116, 117)
        step(queue.flush())
        # Somebody else never gets in while it is under way.
        assert not store.counters.take_now([held._replace(mark=8)])[0].allowed
    assert 2 <= len(store.charged) <= 5
    queue.release(held)
    step(queue.flush())
    assert store.counters.take_now([held._replace(mark=8)])[0].allowed


def test_what_ended_while_the_store_was_down_is_not_told_anew() -> None:
    clock = Clock()

    class Ends:
        """It ends while the store is being told of it, in vain."""

        async def take(self, asks: Any) -> Any:
            raise AssertionError

        async def reset(self, asks: Any) -> None:
            raise AssertionError

        async def charge(self, asks: Any) -> None:
            queue.release(held)
            raise StoreUnavailable("gone")

    queue = Charges(Ends(), clock, nullcontext, tagged=False)
    held = Ask("a", OPEN, 1, 7)
    queue.hold(held)
    clock.now += 59.5
    step(queue.flush())
    assert queue.status()["under_way"] == 0
