"""The circuit breaker: its table walked through, and kept to on any schedule."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from gatekit.core.outcome import Grade
from gatekit.mechanisms.breaker import TRANSITIONS, Breaker, Permit, Rules, State

MIDDLE = 0.5
"""A random value that leaves the wait as it is."""


class Bench:
    """A breaker with its clock and the moves it told of."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.moves: list[tuple[State, State]] = []
        self.breaker = Breaker(rules, lambda before, after: self.moves.append((before, after)))
        self.now = 1_000.0

    def state(self) -> State:
        return self.breaker.state

    def acquire(self, random: float = MIDDLE) -> Permit | None:
        return self.breaker.try_acquire(self.now, random)

    def permit(self, random: float = MIDDLE) -> Permit:
        found = self.acquire(random)
        assert found is not None
        return found

    def record(self, permit: Permit, grade: Grade) -> None:
        self.breaker.record(permit, grade, self.now)

    def send(self, *grades: Grade, random: float = 0.0) -> None:
        for grade in grades:
            self.record(self.permit(random), grade)

    def opened(self) -> Bench:
        self.send(*[Grade.BAD] * 20)
        assert self.state() is State.OPEN
        return self

    def half_open(self) -> Bench:
        self.opened()
        self.now += 5.0
        self.breaker.abandon(self.permit())
        assert self.state() is State.HALF_OPEN
        return self

    def ramp(self) -> Bench:
        self.half_open()
        self.send(*[Grade.GOOD] * 5)
        assert self.state() is State.RAMP
        return self


@pytest.mark.parametrize(
    ("good", "bad", "state"),
    [
        pytest.param(0, 19, State.CLOSED, id="too few to tell"),
        pytest.param(0, 20, State.OPEN, id="all of them"),
        pytest.param(10, 10, State.OPEN, id="half of them"),
        pytest.param(11, 10, State.CLOSED, id="less than half of them"),
    ],
)
def test_it_opens_at_half_of_twenty(good: int, bad: int, state: State) -> None:
    bench = Bench()
    bench.send(*[Grade.GOOD] * good, *[Grade.BAD] * bad)
    assert bench.state() is state


def test_failures_of_long_ago_do_not_count() -> None:
    bench = Bench()
    bench.send(*[Grade.BAD] * 19)
    bench.now += 10.0
    bench.send(*[Grade.BAD] * 19)
    assert bench.state() is State.CLOSED
    bench.send(Grade.BAD)
    assert bench.state() is State.OPEN


def test_what_is_nobodys_fault_does_not_count() -> None:
    bench = Bench()
    bench.send(*[Grade.IGNORE] * 500, *[Grade.BAD] * 19)
    assert bench.state() is State.CLOSED


def test_while_open_nothing_passes_and_it_says_for_how_long() -> None:
    bench = Bench()
    assert bench.breaker.retry_after(bench.now) == 0.0
    bench.opened()
    assert bench.breaker.retry_after(bench.now) == 5.0
    assert bench.acquire() is None
    bench.now += 4.5
    assert bench.breaker.retry_after(bench.now) == 0.5
    assert bench.acquire() is None
    bench.now += 3.0
    assert bench.breaker.retry_after(bench.now) == 0.0
    assert bench.state() is State.OPEN


@pytest.mark.parametrize(("random", "wait"), [(0.0, 4.0), (0.5, 5.0), (1.0, 6.0)])
def test_the_wait_is_spread_by_a_fifth(random: float, wait: float) -> None:
    bench = Bench().opened()
    assert bench.acquire(random) is None
    assert bench.breaker.retry_after(bench.now) == wait
    bench.now += wait - 0.01
    assert bench.acquire(MIDDLE) is None
    bench.now += 0.01
    assert bench.acquire(MIDDLE) is not None


def test_rs7_the_wait_doubles_up_to_a_minute_and_starts_anew_once_closed() -> None:
    bench = Bench().opened()
    waits = []
    for _ in range(7):
        waits.append(bench.breaker.retry_after(bench.now))
        bench.now += waits[-1]
        bench.send(*[Grade.BAD] * 3)
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0]
    bench.now += 60.0
    bench.send(*[Grade.GOOD] * 5)
    bench.now += 10.0
    bench.opened()
    assert bench.breaker.retry_after(bench.now) == 5.0


def test_rs7_exactly_five_probes_are_out_at_a_time() -> None:
    bench = Bench().half_open()
    permits = [bench.permit() for _ in range(5)]
    assert bench.acquire() is None
    bench.breaker.abandon(permits[0])
    bench.breaker.abandon(permits[0])
    permits[0] = bench.permit()
    assert bench.acquire() is None
    bench.record(permits[0], Grade.GOOD)
    bench.record(permits[0], Grade.BAD)
    permits[0] = bench.permit()
    assert bench.acquire() is None
    bench.record(permits[1], Grade.IGNORE)
    assert bench.acquire() is not None


@pytest.mark.parametrize(
    ("grades", "state"),
    [
        ("bbb", State.OPEN),
        ("ggbb", State.HALF_OPEN),
        ("ggbbb", State.OPEN),
        ("gggbb", State.RAMP),
        ("ggggg", State.RAMP),
        ("iiiiiii", State.HALF_OPEN),
    ],
)
def test_what_probes_decide(grades: str, state: State) -> None:
    bench = Bench().half_open()
    bench.send(*[{"g": Grade.GOOD, "b": Grade.BAD, "i": Grade.IGNORE}[one] for one in grades])
    assert bench.state() is state


def test_an_answer_from_before_it_opened_is_no_probe() -> None:
    bench = Bench()
    late = [bench.permit() for _ in range(20)]
    bench.half_open()
    for permit in late:
        bench.record(permit, Grade.BAD)
    assert bench.state() is State.HALF_OPEN


def test_probes_of_the_last_time_still_take_their_place() -> None:
    bench = Bench().half_open()
    late = [bench.permit(), bench.permit()]
    bench.send(*[Grade.BAD] * 3)
    bench.now += 10.0
    assert len([one for one in [bench.acquire() for _ in range(9)] if one is not None]) == 3
    bench.record(late[0], Grade.BAD)
    assert bench.acquire() is not None
    assert bench.acquire() is None


@pytest.mark.parametrize(
    ("passed", "random", "passes"),
    [(0.0, 0.0, False), (1.0, 0.09, True), (1.0, 0.1, False), (5.0, 0.49, True), (5.0, 0.5, False), (10.0, 0.99, True)],
)
def test_the_ramp_is_linear(passed: float, random: float, passes: bool) -> None:
    bench = Bench().ramp()
    bench.now += passed
    assert (bench.acquire(random) is not None) is passes


def test_after_the_ramp_it_is_closed_and_remembers_the_ramp() -> None:
    bench = Bench().ramp()
    bench.now += 9.0
    bench.send(*[Grade.BAD] * 19)
    bench.now += 1.0
    bench.permit()
    assert bench.state() is State.CLOSED
    bench.send(Grade.BAD)
    assert bench.state() is State.OPEN
    assert bench.breaker.retry_after(bench.now) == 5.0


def test_a_ramp_that_fails_waits_longer() -> None:
    bench = Bench().ramp()
    bench.now += 5.0
    bench.send(*[Grade.BAD] * 20)
    assert bench.state() is State.OPEN
    assert bench.breaker.retry_after(bench.now) == 10.0


def test_it_tells_of_every_move() -> None:
    bench = Bench().ramp()
    bench.now += 10.0
    bench.permit()
    assert bench.moves == [
        (State.CLOSED, State.OPEN),
        (State.OPEN, State.HALF_OPEN),
        (State.HALF_OPEN, State.RAMP),
        (State.RAMP, State.CLOSED),
    ]
    silent = Breaker(Rules(min_requests=1))
    permit = silent.try_acquire(0.0, MIDDLE)
    assert permit is not None
    silent.record(permit, Grade.BAD, 0.0)
    assert silent.state is State.OPEN


STEPS = settings(max_examples=80, stateful_step_count=50, deadline=None)


class BreakerMachine(RuleBasedStateMachine):
    """On any schedule: only moves of the table, never too many probes out, and nothing passes an open breaker."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(Rules(min_requests=2, open_for=2.0, open_at_most=4.0, probes=2, ramp=2.0))
        self.out: list[Permit] = []

    @rule(random=st.floats(0, 1, exclude_max=True))
    def acquire(self, random: float) -> None:
        breaker = self.bench.breaker
        waiting = breaker.state is State.OPEN and breaker.retry_after(self.bench.now) > 0.4 * 4.0
        found = self.bench.acquire(random)
        assert not (waiting and found is not None)
        if found is not None:
            self.out.append(found)

    @rule(grade=st.sampled_from([Grade.GOOD, Grade.BAD]), count=st.integers(2, 6))
    def burst(self, grade: Grade, count: int) -> None:
        for _ in range(count):
            found = self.bench.acquire(0.0)
            if found is not None:
                self.bench.record(found, grade)

    @rule(grade=st.sampled_from(Grade), data=st.data())
    def record(self, grade: Grade, data: st.DataObject) -> None:
        if self.out:
            index = data.draw(st.integers(0, len(self.out) - 1))
            self.bench.record(self.out.pop(index), grade)

    @rule()
    def abandon(self) -> None:
        if self.out:
            self.bench.breaker.abandon(self.out.pop())

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0]))
    def passes(self, seconds: float) -> None:
        self.bench.now += seconds

    @invariant()
    def kept(self) -> None:
        assert sum(permit.probe for permit in self.out) <= 2
        moves = self.bench.moves
        assert set(moves) <= set(TRANSITIONS)
        assert all(before[1] is after[0] for before, after in pairwise(moves))


def test_on_any_schedule_it_keeps_to_its_table() -> None:
    run_state_machine_as_test(BreakerMachine, settings=STEPS)
