"""What a rate limit decides and says."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatekit.core.exchange import Exchange
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply, render
from gatekit.policies.rate_limit import RateLimit

Make = Callable[..., Exchange]
AskFor = Callable[[Any, Exchange], Reply | None]


class MovingClock(Protocol):
    now: float

    def monotonic(self) -> float: ...

    def wall(self) -> float: ...


def refused(reply: Reply | None) -> Reply:
    assert reply is not None
    return reply


def fields(reply: Reply) -> dict[bytes, bytes]:
    return dict(reply.headers)


async def test_rl1_a_thousand_simultaneous_requests_are_admitted_exactly_a_hundred_times(
    ports: Ports, exchange: Make, ask: AskFor
) -> None:
    import asyncio

    policy = RateLimit("100/minute").bind(ports)

    async def asked() -> Reply | None:
        return ask(policy, exchange())

    answers = await asyncio.gather(*(asked() for _ in range(1_000)))
    assert answers.count(None) == 100


def test_rl1_threads_are_admitted_exactly_a_hundred_times(clock: MovingClock, exchange: Make, ask: AskFor) -> None:
    policy = RateLimit("100/minute").bind(Ports(clock=clock, lock=threading.Lock))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(policy, exchange()), range(1_000)))
    assert answers.count(None) == 100


def test_the_amount_comes_at_once_and_then_evenly(
    clock: MovingClock, ports: Ports, exchange: Make, ask: AskFor
) -> None:
    policy = RateLimit("2/second").bind(ports)
    assert [ask(policy, exchange()) is None for _ in range(3)] == [True, True, False]
    clock.now += 0.5
    assert [ask(policy, exchange()) is None for _ in range(2)] == [True, False]
    clock.now += 60
    assert [ask(policy, exchange()) is None for _ in range(3)] == [True, True, False]


def test_rl3_a_request_that_one_limit_refuses_consumes_nothing_of_the_others(
    clock: MovingClock, ports: Ports, exchange: Make, ask: AskFor
) -> None:
    policy = RateLimit("1/second;3/hour").bind(ports)
    assert ask(policy, exchange()) is None
    for _ in range(50):
        assert refused(ask(policy, exchange())).members == {
            "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "violated-policies": ["default-second"],
        }
    for _ in range(2):
        clock.now += 1
        assert ask(policy, exchange()) is None
    clock.now += 1
    members = refused(ask(policy, exchange())).members
    assert members is not None
    assert members["violated-policies"] == ["default-hour"]


def test_cost_is_how_much_a_request_takes(ports: Ports, exchange: Make, ask: AskFor) -> None:
    policy = RateLimit("10/second", cost=4).bind(ports)
    assert [ask(policy, exchange()) is None for _ in range(3)] == [True, True, False]


def test_every_caller_has_a_limit_of_its_own(ports: Ports, exchange: Make, ask: AskFor) -> None:
    policy = RateLimit("1/second").bind(ports)
    assert ask(policy, exchange("203.0.113.1")) is None
    assert ask(policy, exchange("203.0.113.2")) is None
    assert ask(policy, exchange("203.0.113.1")) is not None


def test_headers_tell_the_limit_and_what_is_left(clock: MovingClock, ports: Ports, exchange: Make, ask: AskFor) -> None:
    policy = RateLimit("10/second;100/minute", name="burst").bind(ports)
    first, second = exchange(), exchange()
    ask(policy, first)
    clock.now += 1
    ask(policy, second)
    assert first.queue == [
        (0, b"ratelimit-policy", b'"burst-second";q=10;w=1, "burst-minute";q=100;w=60'),
        (0, b"ratelimit", b'"burst-second";r=9;t=1, "burst-minute";r=99;t=1'),
    ]
    assert second.queue is not None
    assert second.queue[1][2] == b'"burst-second";r=9;t=1, "burst-minute";r=99;t=1'


def test_headers_can_be_left_out(ports: Ports, exchange: Make, ask: AskFor) -> None:
    two = exchange()
    assert ask(RateLimit(["1/minute", "9/hour"], headers=False).bind(ports), two) is None
    assert two.queue is None
    policy = RateLimit("1/minute", headers=False).bind(ports)
    passed = exchange()
    assert ask(policy, passed) is None
    assert passed.queue is None
    assert fields(refused(ask(policy, exchange()))) == {b"retry-after": b"60"}


def test_a_429_is_a_problem_document_that_names_the_limit(ports: Ports, exchange: Make, ask: AskFor) -> None:
    policy = RateLimit("1/minute").bind(ports)
    ask(policy, exchange())
    reply = refused(ask(policy, exchange()))
    head, body = render(reply, exchange())
    assert (head.status, head.get("content-type")) == (429, "application/problem+json")
    assert head.get("retry-after") == "60"
    assert head.get("ratelimit") == '"default";r=0;t=60'
    document = json.loads(body)
    assert document["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert (document["code"], document["status"]) == ("rate_limit.exceeded", 429)
    assert document["violated-policies"] == ["default"]


ITEM = r'"[\x20-\x21\x23-\x5b\x5d-\x7e]*"(?:;[a-z]+=-?[0-9]{1,15})+'


@given(
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    limits=st.lists(
        st.tuples(st.integers(1, 10**12), st.integers(1, 90), st.sampled_from(["second", "minute", "hour", "day"])),
        min_size=1,
        max_size=3,
        unique_by=lambda one: {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}[one[2]] * one[1],
    ),
    times=st.lists(st.floats(0, 100), min_size=1, max_size=8),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_rl6_fields_are_valid_and_retry_after_is_never_before_what_they_say(
    exchange: Make, ask: AskFor, name: str, limits: list[tuple[int, int, str]], times: list[float]
) -> None:
    class Moving:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

        def wall(self) -> float:
            return self.now

    clock = Moving()
    spec = RateLimit([f"{amount} per {times} {unit}" for amount, times, unit in limits], name=name)
    policy = spec.bind(clock=clock)
    for passed in times:
        clock.now += passed
        made = exchange()
        reply = ask(policy, made)
        said = [(n, v) for _, n, v in made.queue or []] if reply is None else reply.headers
        found = {key.decode(): value.decode() for key, value in said}
        for field in ("ratelimit", "ratelimit-policy"):
            assert re.fullmatch(rf"{ITEM}(?:, {ITEM})*", found[field])
        assert len(re.findall(r";q=", found["ratelimit-policy"])) == len(limits)
        if reply is not None:
            waits = [int(t) for t in re.findall(r";t=([0-9]+)", found["ratelimit"])]
            assert int(found["retry-after"]) >= max(waits) >= 1
            # Whoever waits as long as he was told gets through.
            clock.now += int(found["retry-after"])
            assert ask(policy, exchange()) is None
