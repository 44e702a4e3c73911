"""No place is ever lost or counted twice, whatever comes in whatever order."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gatekit.mechanisms.limiter import LEVELS, Bounds, Limiter, State, Waiter

ALL = (True,) * LEVELS
NONE = (False,) * LEVELS


class Bell:
    """A signal that says whether it was rung in time."""

    def __init__(self) -> None:
        self.over = False
        self.rung = False

    def fire(self) -> bool:
        if self.over:
            return False
        self.over = self.rung = True
        return True


def limiter(limit: float = 2, queue: int = 2) -> Limiter[str, Bell]:
    made: Limiter[str, Bell] = Limiter(Bounds(queue=queue), limit)
    return made


def test_places_are_taken_and_given_back_once() -> None:
    one = limiter(1)
    assert one.enter("a", 1, 5.0)
    assert not one.enter("b", 1, 6.0)
    assert one.leave("a") == 5.0
    assert one.leave("a") is None
    assert one.enter("b", 1, 7.0)


def test_without_a_limit_everybody_gets_one() -> None:
    one = limiter(math.inf)
    one.settle(Bounds(), math.inf, ALL)
    assert all(one.enter(str(number), 3, 0.0) for number in range(100))


def test_each_level_fills_its_share_where_more_is_to_be_expected() -> None:
    one = limiter(10)
    one.settle(Bounds(), 10, ALL)
    assert one.caps == (10, 9, 7, 5)
    one.settle(Bounds(), 1, ALL)
    assert one.caps == (1, 1, 1, 1), "everybody gets in when nobody is there"
    one.settle(Bounds(), 10, (False, False, False, True))
    assert one.caps == (10, 10, 10, 5)


def test_who_joins_when_there_is_room_after_all_has_a_place() -> None:
    one = limiter(1)
    found = one.join("a", 1, 0.0, Bell)
    assert found is not None
    assert found.state is State.HOLDS
    assert one.held == {"a": 0.0}


def test_who_left_without_seeing_the_one_that_waits_is_noticed() -> None:
    """What threads may do: somebody leaves between the look and the wait."""
    one = limiter(1)
    one.enter("a", 1, 0.0)

    class Leaving(Bell):
        def __init__(self) -> None:
            super().__init__()
            one.leave("a")

    found = one.join("b", 1, 1.0, Leaving)
    assert found is not None
    assert found.state is State.HOLDS
    assert found.signal.rung


def test_without_a_queue_nobody_waits() -> None:
    one = limiter(1, 0)
    one.enter("a", 1, 0.0)
    assert one.join("b", 0, 0.0, Bell) is None


def test_a_place_that_nobody_takes_goes_to_the_next() -> None:
    one = limiter(1)
    one.enter("a", 1, 0.0)
    first, second = one.join("b", 1, 0.0, Bell), one.join("c", 1, 0.0, Bell)
    assert first is not None
    assert second is not None
    first.signal.over = True
    one.leave("a")
    one.serve(0.05)
    assert (first.state, second.state) == (State.GONE, State.HOLDS)
    assert one.give_up(first, 0.05) is False
    assert list(one.held) == ["c"]


class Places(RuleBasedStateMachine):
    """Arrivals, ends, cancellations, timeouts and reloads in any order, against the plainest account there is."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.limit = 3
        self.one: Limiter[int, Bell] = Limiter(Bounds(queue=3, max_wait=1.0, interval=0.2), 3)
        self.number = 0
        self.holders: set[int] = set()
        self.waiters: list[Waiter[int, Bell]] = []

    def _hear(self) -> None:
        """Everybody whose bell was rung looks what has become of him."""
        still = []
        for waiter in self.waiters:
            if waiter.signal.rung:
                assert waiter.state in (State.HOLDS, State.LATE, State.YIELDED)
                if waiter.state is State.HOLDS:
                    self.holders.add(waiter.holder)
            else:
                assert waiter.state is State.WAITS
                still.append(waiter)
        self.waiters = still

    @rule(level=st.integers(0, LEVELS - 1))
    def arrive(self, level: int) -> None:
        self.number += 1
        if self.one.enter(self.number, level, self.now):
            self.holders.add(self.number)
            return
        found = self.one.join(self.number, level, self.now, Bell)
        if found is None:
            assert self.one.waiting >= self.one.bounds.queue
        elif found.state is State.HOLDS:
            raise AssertionError("nobody else is there who could have left meanwhile")
        else:
            self.waiters.append(found)
        self._hear()

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        holder = data.draw(st.sampled_from(sorted(self.holders)))
        self.holders.discard(holder)
        assert self.one.leave(holder) is not None
        assert self.one.leave(holder) is None
        if self.one.waiting:
            self.one.serve(self.now)
        self._hear()

    @precondition(lambda self: self.waiters)
    @rule(data=st.data(), at_the_same_time=st.booleans())
    def cancel(self, data: st.DataObject, at_the_same_time: bool) -> None:
        """Somebody who waits is cancelled; perhaps in the moment that he is given a place."""
        waiter = data.draw(st.sampled_from(self.waiters))
        if at_the_same_time and self.holders:
            self.one.leave(self.holders.pop())
            self.one.serve(self.now)
        self.waiters.remove(waiter)
        waiter.signal.over = True
        self.one.give_up(waiter, self.now)
        assert waiter.holder not in self.one.held
        self._hear()

    @precondition(lambda self: self.waiters)
    @rule(data=st.data(), handed=st.booleans())
    def time_out(self, data: st.DataObject, handed: bool) -> None:
        """His time is over, before he has heard of it perhaps, when a place is handed to him."""
        waiter = data.draw(st.sampled_from(self.waiters))
        self.waiters.remove(waiter)
        waiter.signal.over = True
        if handed and self.holders:
            self.one.leave(self.holders.pop())
            self.one.serve(self.now)
        self.one.give_up(waiter, self.now)
        self._hear()

    @rule(limit=st.integers(1, 5), queue=st.integers(0, 4), reserved=st.integers(0, LEVELS))
    def reload(self, limit: int, queue: int, reserved: int) -> None:
        flags = tuple(level >= reserved for level in range(LEVELS))
        self.limit = limit
        self.one.settle(Bounds(queue=queue, max_wait=1.0, interval=0.2), limit, flags)
        self.one.serve(self.now)
        self._hear()

    @rule(seconds=st.floats(0.0, 0.7))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def every_place_has_its_holder(self) -> None:
        assert set(self.one.held) == self.holders

    @invariant()
    def everybody_who_waits_is_in_the_queue_once(self) -> None:
        assert sorted(waiter.holder for waiter in self.one.queue) == sorted(waiter.holder for waiter in self.waiters)
        assert self.one.waiting == len(self.waiters)

    @invariant()
    def nobody_waits_for_a_place_that_is_free(self) -> None:
        level = self.one.queue.first_level()
        assert level is None or len(self.one.held) >= self.one.caps[level]


TestPlaces = Places.TestCase
TestPlaces.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
