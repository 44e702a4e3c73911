"""What a rate limit decides in this process."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.policies.rate_limit.limit_scene import Clock, ask, end, exchange, fields, passes, ports_for, refused

from gatekit.core.ports import Cells
from gatekit.core.verdict import Reply
from gatekit.errors import MissingPort
from gatekit.policies.rate_limit import LimitRule, RateLimit
from gatekit.policies.rate_limit.local_policy import LocalRateLimitPolicy

SHAPES = [
    pytest.param({"limit": "100/minute"}, id="one limit"),
    pytest.param({"limit": "100/minute;1000/hour"}, id="two limits"),
    pytest.param({"rules": [{"limit": "100/minute", "by": "global"}, {"limit": "1000/hour"}]}, id="two rules"),
    pytest.param({"limit": "100 concurrent"}, id="concurrent"),
]


@pytest.mark.parametrize("given", SHAPES)
async def test_rl1_a_thousand_simultaneous_requests_are_admitted_exactly_a_hundred_times(given: dict[str, Any]) -> None:
    policy = RateLimit(**given).bind(ports_for(Clock()))

    async def asked() -> Reply | None:
        return ask(policy, exchange())

    answers = await asyncio.gather(*(asked() for _ in range(1_000)))
    assert answers.count(None) == 100


@pytest.mark.parametrize("given", SHAPES)
def test_rl1_threads_are_admitted_exactly_a_hundred_times(given: dict[str, Any]) -> None:
    policy = RateLimit(**given).bind(ports_for(Clock(), lock=threading.Lock))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(policy, exchange()), range(1_000)))
    assert answers.count(None) == 100


def test_the_amount_comes_at_once_and_then_evenly() -> None:
    clock = Clock()
    policy = RateLimit("2/second").bind(ports_for(clock))
    assert [passes(policy) for _ in range(3)] == [True, True, False]
    clock.now += 0.5
    assert [passes(policy) for _ in range(2)] == [True, False]
    clock.now += 60
    assert [passes(policy) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("algorithm", "after_half", "after_whole"),
    [("token_bucket", 5, 10), ("fixed_window", 10, 10), ("sliding_window", 1, 5), ("sliding_log", 0, 10)],
)
def test_each_algorithm_counts_its_own_way(algorithm: str, after_half: int, after_whole: int) -> None:
    """Of ten a minute, all used ten seconds before the minute is over: what is there half a minute and a minute later."""
    found = []
    for seconds in (30, 60):
        clock = Clock()
        clock.now = 6_000.0 + 50
        policy = RateLimit("10/minute", algorithm=algorithm).bind(ports_for(clock))
        assert [passes(policy) for _ in range(11)] == [True] * 10 + [False]
        clock.now += seconds
        found.append([passes(policy) for _ in range(11)].count(True))
    assert found[0] == pytest.approx(after_half, abs=2 if algorithm == "sliding_window" else 0)
    assert found[1] == pytest.approx(after_whole, abs=4 if algorithm == "sliding_window" else 0)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"limit": "1/second;3/hour"}, id="limits of one rule"),
        pytest.param(
            {
                "rules": [
                    LimitRule("1/second", name="default-second"),
                    LimitRule("3/hour", by="global", name="default-hour"),
                ]
            },
            id="rules of different keys",
        ),
    ],
)
def test_rl3_a_request_that_one_limit_refuses_consumes_nothing_of_the_others(given: dict[str, Any]) -> None:
    clock = Clock()
    policy = RateLimit(**given).bind(ports_for(clock))
    assert passes(policy)
    for _ in range(50):
        members = refused(ask(policy, exchange())).members
        assert members is not None
        assert members["violated-policies"] == ["default-second"]
    for _ in range(2):
        clock.now += 1
        assert passes(policy)
    clock.now += 1
    members = refused(ask(policy, exchange())).members
    assert members is not None
    assert members["violated-policies"] == ["default-hour"]


def test_rl3_of_two_rules_the_second_takes_nothing_where_the_first_refuses_and_the_reverse() -> None:
    clock = Clock()
    rules = [LimitRule("2/hour"), LimitRule("3/hour", by="global")]
    policy = RateLimit(rules=rules).bind(ports_for(clock))
    assert [passes(policy, peer="203.0.113.1") for _ in range(9)].count(True) == 2
    assert [passes(policy, peer="203.0.113.2") for _ in range(9)].count(True) == 1
    # The global one is used up. It refused eight times, which cost the second address nothing.
    policy.admin()._setting.local.reset_now(
        [one.ask for one in _questions(policy, "203.0.113.1") if one.counting.name == "global"]
    )
    assert [passes(policy, peer="203.0.113.2") for _ in range(9)].count(True) == 1


def _questions(policy: Any, peer: str) -> Any:
    from gatekit.policies.rate_limit.counting import questions

    return questions(policy._enforced, exchange(peer), policy._setting.mark)


def test_cost_is_how_much_a_request_takes() -> None:
    policy = RateLimit("10/second", cost=4).bind(ports_for(Clock()))
    assert [passes(policy) for _ in range(3)] == [True, True, False]


def test_rl9_cost_may_be_a_function_of_the_exchange() -> None:
    policy = RateLimit("10/second", cost=lambda made: 5 if made.method == "POST" else 1).bind(ports_for(Clock()))
    assert [passes(policy, method=method) for method in ("POST", "GET", "POST", "GET", "GET", "GET", "GET", "GET")] == [
        True, True, False, True, True, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("cost", [-1, 1.5, "1", None, True, 10**13])
def test_a_cost_that_is_no_whole_number_fails_closed(cost: Any) -> None:
    policy = RateLimit("10/second", cost=lambda made: cost).bind(ports_for(Clock()))
    with pytest.raises(ValueError, match="a cost is a whole number from 0"):
        ask(policy, exchange())


def test_every_caller_has_a_limit_of_his_own() -> None:
    policy = RateLimit("1/second").bind(ports_for(Clock()))
    assert [passes(policy, peer=peer) for peer in ("203.0.113.1", "203.0.113.2", "203.0.113.1")] == [True, True, False]


def test_unlimited_is_no_limit() -> None:
    policy = RateLimit("unlimited").bind(ports_for(Clock()))
    made = exchange()
    assert [ask(policy, made) for _ in range(99)] == [None] * 99
    assert fields(made) == {}


def test_counting_here_needs_a_clock() -> None:
    with pytest.raises(MissingPort, match="clock"):
        RateLimit("1/second").bind()


def test_a_reload_that_leaves_the_limit_alone_leaves_the_counts_alone() -> None:
    clock, cells = Clock(), Cells()

    def generation(limit: str, owner: str = "gateway", **more: Any) -> Any:
        return RateLimit(limit, **more).bind(ports_for(clock, cells=cells, owner=owner))

    assert passes(generation("1/minute"))
    assert not passes(generation("1/minute"))
    # Plans and overrides may come and go.
    assert not passes(generation("1/minute", overrides={"client_ip:10.0.0.0/8": "5/minute"}))
    assert passes(generation("1/minute", "route:other"))
    assert passes(generation("1/hour"))


def test_two_limits_of_one_name_in_one_place_count_apart() -> None:
    clock, cells = Clock(), Cells()
    ports = ports_for(clock, cells=cells)
    two = RateLimit("1/minute;5/hour").bind(ports)
    one = RateLimit("1/minute").bind(ports)
    assert passes(two)
    assert passes(one)
    # Whoever has no tenant is counted by his address there, and apart from it here.
    assert passes(RateLimit("1/minute", by="tenant").bind(ports))


def test_rl8_a_flood_of_keys_neither_grows_memory_nor_frees_who_is_limited() -> None:
    clock = Clock()
    policy = RateLimit("2/hour", max_keys=50).bind(ports_for(clock))
    limited = [f"203.0.113.{index}" for index in range(20)]
    for peer in limited:
        assert [passes(policy, peer=peer) for _ in range(3)] == [True, True, False]
    for index in range(2_000):
        clock.now += 0.01
        assert passes(policy, peer=f"10.0.{index // 250}.{index % 250}")
    assert not any(passes(policy, peer=peer) for peer in limited)
    assert policy.status()["keys"] == 50


@pytest.mark.parametrize(
    ("given", "processes", "amounts"),
    [
        ({"limit": "100/minute"}, 4, [100]),
        ({"limit": "100/minute", "divide": True}, 4, [25]),
        ({"limit": "100/minute", "divide": True, "instances": 3}, 4, [8]),
        ({"limit": "3/minute", "divide": True}, 4, [1]),
        ({"limit": "9/minute", "divide": True, "cost": 4}, 4, [4]),
        ({"limit": "100/minute;8 concurrent", "divide": True, "cost": 3}, 4, [25, 2]),
    ],
)
def test_without_a_store_each_process_counts_the_whole_or_its_part(
    given: Any, processes: int, amounts: list[int]
) -> None:
    made = exchange()
    assert ask(RateLimit(**given).bind(ports_for(Clock(), processes=processes)), made) is None
    policies = fields(made)["ratelimit-policy"].split(", ")
    assert [int(one.split(";")[1][2:]) for one in policies] == amounts


@pytest.mark.parametrize(
    "given", [{}, {"headers": False}, {"near": 0.5}, {"algorithm": "fixed_window"}, {"by": "global"}]
)
def test_the_short_way_says_what_the_long_way_says(given: dict[str, Any]) -> None:
    clocks = Clock(), Clock()
    short = RateLimit("3/minute", **given).bind(ports_for(clocks[0]))
    long = RateLimit(rules=[LimitRule("3/minute", name="default", **{k: v for k, v in given.items() if k in ("algorithm", "by")})],
                     **{k: v for k, v in given.items() if k not in ("algorithm", "by")}).bind(ports_for(clocks[1]))  # fmt: skip
    assert isinstance(short, LocalRateLimitPolicy)
    assert not isinstance(long, LocalRateLimitPolicy)
    for _ in range(5):
        answers = []
        for policy, clock in zip((short, long), clocks, strict=True):
            made = exchange()
            reply = ask(policy, made)
            end(policy, made)
            answers.append((made.queue, reply and (reply.status, reply.reason, reply.headers, reply.members)))
            clock.now += 7
        assert answers[0] == answers[1]
    assert short.status() == long.status()
    assert not hasattr(short, "observe")
