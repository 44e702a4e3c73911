"""What is true of every algorithm, what tells them apart, and their edges."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.core.counters import Limit, Taken
from gatekit.mechanisms.windows import ALGORITHMS, State, Window, window_of

every_algorithm = pytest.mark.parametrize("name", sorted(ALGORITHMS))

Limits = st.tuples(st.integers(1, 50), st.one_of(st.integers(1, 100_000), st.floats(0.001, 1e7)))
Steps = st.lists(
    st.tuples(
        st.one_of(st.just(0.0), st.floats(0.0, 2.0), st.floats(0.0, 1e6)),
        st.sampled_from(["take", "take", "take", "charge"]),
        st.integers(-4, 60),
        st.integers(0, 3),
    ),
    max_size=30,
)


def made(name: str, amount: int, period: float) -> Window:
    return window_of(Limit(amount, period, name))


def spend(window: Window, now: float, times: int, state: State = (), cost: int = 1) -> tuple[int, State]:
    """How many of so many fitted, and the state after."""
    fitted = 0
    for _ in range(times):
        state, answer = window.take(state, now, cost)
        fitted += answer.allowed
    return fitted, state


@every_algorithm
@given(limit=Limits, begin=st.floats(0.0, 1e6), steps=Steps)
@settings(max_examples=150, deadline=None)
def test_answers_make_sense_and_who_waits_as_told_gets_through(
    name: str, limit: tuple[int, float], begin: float, steps: list[tuple[float, str, int, int]]
) -> None:
    amount, period = limit
    window, now = made(name, amount, period), begin
    state: State = ()
    for seconds, what, cost, mark in steps:
        now += seconds
        if what == "charge":
            state = window.charge(state, now, cost, mark)
            assert all(number >= 0 for number in state)
            continue
        cost = abs(cost)
        after, answer = window.take(state, now, cost, mark)
        assert 0 <= answer.remaining <= amount
        assert 0.0 <= answer.reset_after < math.inf
        assert answer.allowed == (answer.retry_after == 0.0)
        if not answer.allowed or not cost:
            assert after is state
        if answer.allowed:
            assert answer.remaining <= amount - cost
        elif cost > amount:
            assert answer.retry_after == math.inf
        else:
            then = now + answer.retry_after
            # A time so far on, or a rate so high, that a float does not tell one request from the next.
            if math.ulp(then) * amount / period < 1e-7 and math.ulp(then) / period < 1e-10:
                assert window.take(after, then, cost, mark)[1].allowed
        state = after


@every_algorithm
@given(limit=Limits, begin=st.floats(0.0, 2e9), steps=Steps)
@settings(max_examples=60, deadline=None)
def test_who_waits_whole_seconds_gets_through_at_any_date(
    name: str, limit: tuple[int, float], begin: float, steps: list[tuple[float, str, int, int]]
) -> None:
    amount, period = limit
    window, now = made(name, amount, max(1.0, period)), begin
    state: State = ()
    for seconds, what, cost, mark in steps:
        now += seconds
        if what == "charge":
            state = window.charge(state, now, cost, mark)
            continue
        state, answer = window.take(state, now, min(abs(cost), amount), mark)
        if not answer.allowed and answer.retry_after % 1.0 < 0.999:
            assert window.take(state, now + math.ceil(answer.retry_after), min(abs(cost), amount), mark)[1].allowed


@pytest.mark.parametrize(
    ("name", "period", "begin", "now"),
    [
        ("concurrency", 7555867.996935206, 249559.97609419716, 497744.4605947421),
        ("fixed_window", 7148244.804863661, 667779.0719068024, 1209443.9150943425),
        ("sliding_log", 2550691.002325191, 495435.59165685385, 839389.436031515),
    ],
)
def test_an_end_that_floats_miss_by_their_last_bit_is_an_end(
    name: str, period: float, begin: float, now: float
) -> None:
    window = made(name, 1, period)
    state = spend(window, begin, 1)[1]
    refused = window.take(state, now, 1)[1]
    assert not refused.allowed
    assert window.take(state, now + refused.retry_after, 1)[1].allowed


@every_algorithm
def test_rl1_a_thousand_at_once_admit_exactly_the_amount(name: str) -> None:
    assert spend(made(name, 100, 60.0), 1_000.7, 1_000)[0] == 100


@every_algorithm
def test_an_unused_limit_is_whole(name: str) -> None:
    assert made(name, 4, 8.0).take((), 3.0, 0) == ((), Taken(True, 4, 0.0, 0.0))
    assert made(name, 4, 8.0).take((), 3.0, 5) == ((), Taken(False, 4, 0.0, math.inf))


@every_algorithm
def test_time_that_goes_back_gives_nothing_back(name: str) -> None:
    window = made(name, 4, 8.0)
    _, state = spend(window, 84.0, 2)
    refused = window.take(state, 60.0, 3)[1]
    assert not refused.allowed
    assert refused.retry_after >= 24.0 or name == "token_bucket"
    _, state = spend(window, 60.0, 2, state)
    assert not window.take(state, 84.0, 1)[1].allowed
    assert window.charge(state, 60.0, 1) >= state


@every_algorithm
def test_what_is_spent_past_the_limit_is_a_debt(name: str) -> None:
    window = made(name, 4, 8.0)
    state = window.charge((), 80.0, 6)
    look = window.take(state, 80.0, 0)[1]
    assert (look.allowed, look.remaining) == (False, 0)
    refused = window.take(state, 80.0, 1)[1]
    assert 0.0 < refused.retry_after < math.inf
    later = 80.0 + refused.retry_after
    assert window.take(state, later, 1)[1].allowed
    assert not window.take(state, later - 0.01, 1)[1].allowed


@every_algorithm
def test_what_is_given_back_whole_leaves_no_state(name: str) -> None:
    window = made(name, 4, 8.0)
    state = spend(window, 80.0, 3)[1]
    assert window.charge(state, 81.0, -9) == ()
    assert window.charge((), 81.0, -1) == ()
    assert window.charge((), 81.0, 0) == ()


@every_algorithm
def test_a_state_may_come_from_a_store_as_floats(name: str) -> None:
    window = made(name, 4, 8.0)
    state = spend(window, 80.5, 3)[1]
    floats = tuple(map(float, state))
    assert window.take(floats, 81.0, 1) == window.take(state, 81.0, 1)
    assert type(window.take(floats, 81.0, 1)[1].remaining) is int
    assert type(window.take(floats, 81.0, 4)[1].remaining) is int


@pytest.mark.parametrize(
    ("name", "at_the_edge"),
    [
        pytest.param("token_bucket", 0, id="token bucket"),
        pytest.param("fixed_window", 100, id="fixed window"),
        pytest.param("sliding_window", 0, id="sliding window"),
        pytest.param("sliding_log", 0, id="sliding log"),
        pytest.param("concurrency", 0, id="concurrency"),
    ],
)
def test_what_passes_just_after_an_edge(name: str, at_the_edge: int) -> None:
    window = made(name, 100, 60.0)
    fitted, state = spend(window, 119.9375, 200)
    assert fitted == 100
    assert spend(window, 120.0, 200, state)[0] == at_the_edge


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        (Limit(5, 1.0, "leaky"), r"no algorithm 'leaky': take one of concurrency, fixed_window, .*token_bucket"),
        (Limit(1_001, 1.0, "sliding_log"), r"at most 1000, not 1001: take sliding_window or token_bucket"),
        (Limit(1_001, 1.0, "concurrency"), r"at most 1000, not 1001"),
    ],
    ids=["unknown", "long log", "many at once"],
)
def test_a_limit_that_nothing_can_count_is_refused_with_what_to_do(limit: Limit, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        window_of(limit)


@pytest.mark.parametrize("name", ["sliding_log", "concurrency"])
def test_the_longest_states_are_counted_exactly(name: str) -> None:
    window = made(name, 1_000, 60.0)
    fitted, state = spend(window, 100.0, 1_100)
    assert fitted == 1_000
    assert window.take(state, 160.0, 1_000)[1].allowed


# What a full state does: bounded, and never in the caller's favour.


def test_a_log_that_is_full_counts_its_newest_a_little_longer() -> None:
    window = made("sliding_log", 3, 10.0)
    state: State = ()
    for now in (100.0, 101.0, 102.0, 103.0, 104.0):
        state = window.charge(state, now, 2)
    assert state == (100.0, 2, 101.0, 2, 104.0, 6)
    assert window.take(state, 113.0, 1)[1].retry_after == 1.0
    assert window.take(state, 114.0, 3)[1].allowed


def test_a_log_has_one_entry_for_each_moment() -> None:
    window = made("sliding_log", 9, 10.0)
    _, state = spend(window, 100.0, 4)
    assert state == (100.0, 4)
    assert window.charge(state, 90.0, 2) == (100.0, 6)


def test_a_log_gives_back_the_newest_first() -> None:
    window = made("sliding_log", 9, 10.0)
    state: State = (100.0, 2, 101.0, 2, 102.0, 3)
    assert window.charge(state, 103.0, -2) == (100.0, 2, 101.0, 2, 102.0, 1)
    assert window.charge(state, 103.0, -3) == (100.0, 2, 101.0, 2)
    assert window.charge(state, 103.0, -4) == (100.0, 2, 101.0, 1)
    assert window.charge(state, 110.0, -9) == ()


def test_what_is_held_past_twice_the_amount_is_not_written_down() -> None:
    window = made("concurrency", 2, 10.0)
    state = window.charge((), 100.0, 10**12, 7)
    assert state == (7, 110.0) * 4
    assert window.charge(state, 101.0, 1, 8) == state
    assert window.charge(state, 105.0, -1, 7) == ()


def test_what_nobody_gives_back_ends_by_itself() -> None:
    window = made("concurrency", 2, 10.0)
    _, state = spend(window, 100.0, 1)
    state = window.take(state, 104.0, 1, 9)[0]
    assert window.take(state, 109.0, 1)[1] == Taken(False, 0, 5.0, 1.0)
    assert window.take(state, 109.0, 2)[1].retry_after == 5.0
    state, taken = window.take(state, 110.0, 1, 10)
    assert (taken.allowed, state) == (True, (9, 114.0, 10, 120.0))
    # It was over, so nothing is there to give back.
    assert window.charge(state, 111.0, -1, 0) == state


def test_marks_that_end_together_end_in_order_when_time_went_back() -> None:
    window = made("concurrency", 3, 10.0)
    state = window.take((), 100.0, 1, 1)[0]
    assert window.take(state, 90.0, 1, 2)[0] == (1, 110.0, 2, 110.0)


def test_the_sliding_window_gives_back_from_the_period_before_last() -> None:
    window = made("sliding_window", 9, 10.0)
    state: State = (10, 2, 5)
    assert window.charge(state, 105.0, -2) == (10, 0, 5)
    assert window.charge(state, 105.0, -4) == (10, 0, 3)
    assert window.charge(state, 105.0, -8) == ()
    assert window.charge(state, 115.0, -1) == (11, 0, 1)
    assert window.charge(state, 125.0, 1) == (12, 1, 0)


@pytest.mark.parametrize("name", ["fixed_window", "sliding_window"])
@given(index=st.integers(1, 10**6), period=st.floats(1e-3, 1e5))
@settings(max_examples=300, deadline=None)
def test_the_end_of_a_window_is_the_begin_of_the_next(name: str, index: int, period: float) -> None:
    """Whatever a division rounds to."""
    window = made(name, 1, period)
    end = index * period
    state, _ = window.take((), end - 1e-6 * period, 1)
    answer = window.take(state, end, 0)[1]
    assert answer.remaining == (1 if name == "fixed_window" else 0)
    reset = window.take(spend(window, end, 1)[1], end, 0)[1].reset_after
    assert reset > 0.99 * period


def test_every_pair_of_cost_and_amount_fits_or_never_will() -> None:
    for name, amount, cost in product(sorted(ALGORITHMS), range(1, 5), range(6)):
        answer = made(name, amount, 8.0).take((), 77.0, cost)[1]
        assert answer.allowed == (cost <= amount)
        assert answer.retry_after == (0.0 if cost <= amount else math.inf)
