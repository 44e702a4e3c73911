"""The three ways to count, each against a slow reference that keeps every request. Times are exact binary fractions."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.core.ports import Taken
from gatekit.mechanisms.window import ALGORITHMS, FixedWindow, SlidingWindow, TokenBucket, Window, take

Log = list[tuple[Fraction, int]]
Reference = Callable[[Log, int, int, Fraction], Fraction]
"""How much counts as spent at that time, by definition of the algorithm."""


def bucket(log: Log, amount: int, period: int, now: Fraction) -> Fraction:
    level, at = Fraction(0), log[0][0] if log else now
    for when, cost in log:
        level = max(Fraction(0), level - (when - at) * amount / period) + cost
        at = when
    return max(Fraction(0), level - (now - at) * amount / period)


def fixed(log: Log, amount: int, period: int, now: Fraction) -> Fraction:
    return Fraction(sum(cost for when, cost in log if when // period == now // period))


def sliding(log: Log, amount: int, period: int, now: Fraction) -> Fraction:
    index = now // period
    before = sum(cost for when, cost in log if when // period == index - 1)
    return fixed(log, amount, period, now) + before * (1 - (now / period - index))


REFERENCES: dict[str, Reference] = {"fixed_window": fixed, "sliding_window": sliding, "token_bucket": bucket}

Limits = st.tuples(st.integers(1, 16), st.sampled_from([1, 2, 8, 64]))
Schedule = st.lists(
    st.tuples(st.one_of(st.just(0), st.integers(0, 40), st.integers(0, 4_000)), st.integers(1, 4)), max_size=60
)


def test_every_algorithm_has_a_reference() -> None:
    assert set(REFERENCES) == set(ALGORITHMS)


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
@given(limit=Limits, schedule=Schedule)
@settings(max_examples=150, deadline=None)
def test_decisions_are_those_of_the_reference(
    name: str, limit: tuple[int, int], schedule: list[tuple[int, int]]
) -> None:
    amount, period = limit
    window, log, now = ALGORITHMS[name](amount, period), Log(), Fraction(4096)
    for ticks, cost in schedule:
        now += Fraction(ticks, 64)
        spent = REFERENCES[name](log, amount, period, now)
        room = amount - spent - cost
        if 0 < abs(room) < Fraction(1, 1_000):
            return  # nearer than rounding can tell
        (answer,) = take([window], [cost], float(now))
        assert answer.allowed == (room >= 0)
        if answer.allowed:
            log.append((now, cost))
            assert answer.retry_after == 0.0
            spent += cost
        else:
            check_wait(name, log, limit, now, cost, answer)
        assert answer.remaining == max(0, math.floor(amount - spent + Fraction(1, 1_000_000)))
        whole = now + Fraction(answer.reset_after)
        assert REFERENCES[name](log, amount, period, whole + Fraction(1, 1_000)) <= Fraction(1, 1_000)
        assert answer.reset_after <= 2 * period


def check_wait(name: str, log: Log, limit: tuple[int, int], now: Fraction, cost: int, answer: Taken) -> None:
    """`retry_after` is the very moment: just after it the cost fits, just before it does not."""
    amount, period = limit
    if cost > amount:
        assert answer.retry_after == math.inf
        return
    then, little = now + Fraction(answer.retry_after), Fraction(1, 1_000)
    assert REFERENCES[name](log, amount, period, then + little) + cost <= amount + little
    if answer.retry_after > little:
        # A thousandth of a second of the quickest limit here is 16 thousandths of a request.
        assert REFERENCES[name](log, amount, period, then - little) + cost > amount


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_rl1_a_thousand_at_once_admit_exactly_the_amount(name: str) -> None:
    window = ALGORITHMS[name](100, 60)
    assert sum(take([window], [1], 1_000.7)[0].allowed for _ in range(1_000)) == 100


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
@given(limits=st.lists(Limits, min_size=1, max_size=3), schedule=Schedule)
@settings(max_examples=40, deadline=None)
def test_rl3_what_one_refuses_costs_nothing_of_the_others(
    name: str, limits: list[tuple[int, int]], schedule: list[tuple[int, int]]
) -> None:
    windows = [ALGORITHMS[name](amount, period) for amount, period in limits]
    now = 4096.0
    for ticks, cost in schedule:
        now += ticks / 64
        before = [window.look(cost, now) for window in windows]
        answers = take(windows, [cost] * len(windows), now)
        after = [window.look(cost, now) for window in windows]
        if all(one.allowed for one in before):
            assert [one.remaining for one in after] == [one.remaining for one in answers]
            assert all(one.allowed for one in answers)
        else:
            assert before == answers == after


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_time_that_goes_back_gives_nothing_back(name: str) -> None:
    window = ALGORITHMS[name](4, 8)
    window.charge(2, 84.0)
    assert window.look(3, 60.0).allowed is False
    assert window.charge(2, 60.0).remaining == 0
    assert window.look(1, 84.0).allowed is False


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_an_unused_limit_is_whole(name: str) -> None:
    assert ALGORITHMS[name](4, 8).look(1, 3.0) == Taken(True, 4, 0.0, 0.0)


@pytest.mark.parametrize(
    ("window", "at_the_edge"),
    [
        pytest.param(TokenBucket(100, 60), 0, id="token bucket"),
        pytest.param(FixedWindow(100, 60), 100, id="fixed window"),
        pytest.param(SlidingWindow(100, 60), 0, id="sliding window"),
    ],
)
def test_what_passes_just_after_an_edge(window: Window, at_the_edge: int) -> None:
    spent = sum(take([window], [1], 119.9375)[0].allowed for _ in range(200))
    assert spent == 100
    assert sum(take([window], [1], 120.0)[0].allowed for _ in range(200)) == at_the_edge


@pytest.mark.parametrize("per_second", [5, 8, 9.5, 10, 11, 16, 64])
def test_rl2_on_an_even_stream_the_sliding_window_is_within_one_percent_of_an_exact_log(per_second: float) -> None:
    window, exact, admitted, most = SlidingWindow(600, 60), deque[float](), deque[float](), 0
    counted = exactly = 0
    for index in range(int(per_second * 1_200)):
        now = 6_000.0 + index / per_second
        while exact and exact[0] <= now - 60:
            exact.popleft()
        while admitted and admitted[0] <= now - 60:
            admitted.popleft()
        if len(exact) < 600:
            exact.append(now)
            exactly += 1
        if take([window], [1], now)[0].allowed:
            admitted.append(now)
            counted += 1
        most = max(most, len(admitted))
    assert abs(counted - exactly) <= 0.01 * exactly
    assert most < 2 * 600


def test_each_window_needs_its_cost() -> None:
    with pytest.raises(ValueError, match="zip"):
        take([FixedWindow(1, 1)], [], 0.0)


@given(limit=Limits, schedule=Schedule)
@settings(max_examples=150, deadline=None)
def test_a_bucket_takes_in_one_step_what_it_takes_in_two(
    limit: tuple[int, int], schedule: list[tuple[int, int]]
) -> None:
    amount, period = limit
    one, two, now = TokenBucket(amount, period), TokenBucket(amount, period), 4096.0
    for ticks, cost in schedule:
        now += ticks / 64
        assert one.take(cost, now) == take([two], [cost], now)[0]
