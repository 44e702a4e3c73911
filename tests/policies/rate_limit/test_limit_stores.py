"""With a shared store, without it, and counting in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import pytest

from gatekit.core.exchange import Exchange
from gatekit.core.outcome import Fault
from gatekit.core.ports import Ask, Cells, Ports, Taken
from gatekit.core.verdict import Reply
from gatekit.errors import MissingPort
from gatekit.policies.rate_limit import LocalCounters, RateLimit

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


def test_a_shared_store_is_asked_once_for_all_limits(make_store: Any, exchange: Make, ask: AskFor) -> None:
    store = make_store()
    policy = RateLimit("1/second;5/hour", by="global", cost=1, name="n", on_error="allow").bind(
        Ports(counters=store, owner="route:orders")
    )
    assert ask(policy, exchange()) is None
    key = "route:orders|n|global|global"
    assert store.asked == [[Ask(key, 1, 1.0, 1), Ask(key, 5, 3_600.0, 1)]]


def test_what_the_store_refuses_is_refused(make_store: Any, exchange: Make, ask: AskFor) -> None:
    store = make_store(Taken(True, 3, 1.0, 0.0), Taken(False, 0, 9.5, 2.5))
    policy = RateLimit("9/second;5/hour", on_error="allow").bind(Ports(counters=store))
    assert fields(refused(ask(policy, exchange()))) == {
        b"retry-after": b"3",
        b"ratelimit-policy": b'"default-second";q=9;w=1, "default-hour";q=5;w=3600',
        b"ratelimit": b'"default-hour";r=0;t=3',
    }


@pytest.mark.parametrize(
    ("on_error", "answers", "warned"),
    [
        pytest.param("allow", [None, None, None], "letting everything pass", id="allow"),
        pytest.param("deny", ["rate_limit.unavailable"] * 3, "refusing every request", id="deny"),
        pytest.param("local", [None, None, "rate_limit.exceeded"], "counting in this process", id="local"),
    ],
)
def test_rl5_without_the_store(
    clock: MovingClock,
    make_store: Any,
    exchange: Make,
    ask: AskFor,
    caplog: pytest.LogCaptureFixture,
    on_error: Any,
    answers: list[str | None],
    warned: str,
) -> None:
    store = make_store()
    store.down = True
    policy = RateLimit("2/second", on_error=on_error).bind(Ports(clock=clock, counters=store))
    with caplog.at_level(logging.WARNING, "gatekit.rate_limit"):
        replies = [ask(policy, exchange()) for _ in range(3)]
    assert [None if reply is None else reply.reason for reply in replies] == answers
    assert len(caplog.messages) == 1
    assert warned in caplog.messages[0]
    store.down = False
    assert ask(policy, exchange()) is None
    store.down = True
    ask(policy, exchange())
    assert len(caplog.messages) == 2


def test_a_503_is_the_gateways_fault(make_store: Any, exchange: Make, ask: AskFor) -> None:
    store = make_store()
    store.down = True
    made = exchange()
    reply = refused(ask(RateLimit("2/second", on_error="deny").bind(counters=store), made))
    assert (reply.status, fields(reply)) == (503, {b"retry-after": b"1"})
    assert made.fault is Fault.GATEWAY


@pytest.mark.parametrize("given", [{}, {"counters": True}])
def test_counting_here_needs_a_clock(make_store: Any, given: dict[str, Any]) -> None:
    with pytest.raises(MissingPort, match="clock"):
        RateLimit("1/second").bind(**{name: make_store() for name in given})


def test_a_reload_that_leaves_the_limit_alone_leaves_the_counts_alone(
    clock: MovingClock, exchange: Make, ask: AskFor
) -> None:
    cells = Cells()

    def generation(limit: str, owner: str = "gateway") -> Any:
        return RateLimit(limit).bind(Ports(clock=clock, cells=cells, owner=owner))

    assert ask(generation("1/minute"), exchange()) is None
    assert ask(generation("1/minute"), exchange()) is not None
    assert ask(generation("1/minute", "route:other"), exchange()) is None
    assert ask(generation("1/hour"), exchange()) is None


def test_rl8_a_flood_of_keys_neither_grows_memory_nor_frees_who_is_limited(
    clock: MovingClock, exchange: Make, ask: AskFor
) -> None:
    cells = Cells()
    policy = RateLimit("2/hour", max_keys=50).bind(Ports(clock=clock, cells=cells, owner="o"))
    limited = [f"203.0.113.{index}" for index in range(20)]
    for peer in limited:
        assert [ask(policy, exchange(peer)) is None for _ in range(3)] == [True, True, False]
    for index in range(2_000):
        clock.now += 0.01
        assert ask(policy, exchange(f"10.0.{index // 250}.{index % 250}")) is None
    assert all(ask(policy, exchange(peer)) is not None for peer in limited)
    (cell,) = cells._cells.values()
    assert len(cell) == 50


def step(counters: LocalCounters, asks: Sequence[Ask]) -> Sequence[Taken]:
    coroutine = counters.take(asks)
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    answers: Sequence[Taken] = stopped.value.value
    return answers


def test_who_may_not_pay_the_price_counts_as_limited_though_something_is_left(clock: MovingClock) -> None:
    counters = LocalCounters(clock, max_keys=2)
    assert step(counters, [Ask("dear", 7, 3_600.0, 4)])[0].remaining == 3
    for index in range(20):
        step(counters, [Ask(f"cheap {index}", 7, 3_600.0, 1)])
    assert not step(counters, [Ask("dear", 7, 3_600.0, 4)])[0].allowed


class Guard:
    """A lock that knows whether it is held."""

    held = False

    def __enter__(self) -> None:
        assert not self.held
        self.held = True

    def __exit__(self, *why: object) -> None:
        self.held = False


def test_time_and_counts_are_read_under_the_lock(clock: MovingClock) -> None:
    guard = Guard()

    class Guarded:
        def monotonic(self) -> float:
            assert guard.held
            return clock.monotonic()

        def wall(self) -> float:
            return clock.wall()

    step(LocalCounters(Guarded(), lambda: guard), [Ask("a", 1, 1.0)])
    assert not guard.held


def test_local_counters_keep_what_is_known_of_the_limit_that_refused(clock: MovingClock) -> None:
    counters = LocalCounters(clock)
    assert [one.allowed for one in step(counters, [Ask("a", 1, 60.0), Ask("b", 5, 60.0)])] == [True, True]
    assert [one.allowed for one in step(counters, [Ask("a", 1, 60.0), Ask("b", 5, 60.0)])] == [False, True]
    assert step(counters, [Ask("b", 5, 60.0)])[0].remaining == 3
    assert len(counters) == 2


def test_a_bucket_that_is_full_again_is_as_good_as_new(clock: MovingClock) -> None:
    counters = LocalCounters(clock, max_keys=1)
    step(counters, [Ask("a", 1, 60.0)])
    clock.now += 60
    assert step(counters, [Ask("a", 1, 60.0)])[0] == Taken(True, 0, 60.0, 0.0)
