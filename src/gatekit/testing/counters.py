"""What every implementation of `Counters` must do, as a list of cases. A store is run through all of it by being listed:

    @pytest.mark.parametrize("case", cases(), ids=str)
    async def test_they_count(case: Case) -> None:
        clock = ManualClock()
        await case(Trial(LocalCounters(clock), clock.advance))

A store that lives on real time is given no `advance` and takes `cases(moves_time=False)`: which cases are left out is
what `moves_time` says, never a skip at run time. Likewise for algorithms and calendars that a store does not know.
All limits of the cases that do not move time are so long that nothing comes back meanwhile.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from gatekit.core.counters import Ask, Counters, Limit, Taken
from gatekit.mechanisms.calendar import CalendarWindow
from gatekit.mechanisms.windows import ALGORITHMS

LONG: Final = 1_000_000.0
"""Seconds in which nothing comes back while a test runs: 11 days, of which any store can keep two periods."""

SHORT: Final = 64.0
"""Seconds of the limits of cases that move time."""

_BYTES: Final = 6
_TICK: Final = 1e-3


@dataclass(slots=True)
class Trial:
    """Counters on trial. `advance` lets seconds pass on their clock (it may return an awaitable); None where that is
    real time. Keys are new ones in each trial, so that one store can be tried many times."""

    counters: Counters
    advance: Callable[[float], Awaitable[None] | None] | None = None
    _name: str = field(default_factory=lambda: secrets.token_hex(_BYTES))
    _marks: int = 0

    def ask(self, name: str, limit: Limit, cost: int = 1, mark: int | None = None) -> Ask:
        """A question about a key of this trial, with a mark of its own unless one is given. All keys of a trial lie in one
        slot of a Redis Cluster."""
        if mark is None:
            self._marks += 1
            mark = self._marks
        return Ask(f"{{{self._name}}}{name}|{limit.id}", limit, cost, mark)

    async def one(self, ask: Ask) -> Taken:
        """The answer to one question."""
        (taken,) = await self.counters.take([ask])
        return taken

    async def left(self, name: str, limit: Limit) -> int:
        """What is left under that key."""
        return (await self.one(self.ask(name, limit, 0))).remaining

    async def pass_time(self, seconds: float) -> None:
        """Raises ValueError where time is real."""
        if self.advance is None:
            raise ValueError("this case moves time, and these counters live on real time: take cases(moves_time=False)")
        passed = self.advance(seconds)
        if inspect.isawaitable(passed):
            await passed


Check = Callable[[Trial, Limit], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that must be true of counters, with one algorithm. Awaited with a trial it raises AssertionError where it
    is not."""

    topic: str
    algorithm: str
    moves_time: bool
    calendar: bool
    check: Check = field(repr=False)

    def __str__(self) -> str:
        return f"{self.algorithm}{'-by-calendar' if self.calendar else ''}-{self.topic}"

    async def __call__(self, trial: Trial) -> None:
        await self.check(trial, self.limit(5))

    def limit(self, amount: int) -> Limit:
        calendar = CalendarWindow("year", "UTC", _utc) if self.calendar else None
        return Limit(amount, SHORT if self.moves_time else LONG, self.algorithm, calendar)


def cases(
    *, algorithms: Collection[str] = tuple(ALGORITHMS), calendars: bool = True, moves_time: bool = True
) -> list[Case]:
    """All cases for counters that know these algorithms, with or without calendars, on a clock that a test moves or not."""
    found = [
        Case(topic.__name__.strip("_"), algorithm, moving, by_calendar, topic)
        for algorithm in algorithms
        for by_calendar in ((False, True) if calendars and algorithm == "fixed_window" else (False,))
        for moving, topics in ((False, _TOPICS), (True, _TIMELY))
        if moves_time or not moving
        for topic in topics
    ]
    return [case for case in found if not (case.algorithm == "concurrency" and case.check in _BY_AMOUNT)] + [
        Case(topic.__name__.strip("_"), "concurrency", False, False, topic)
        for topic in _BY_MARK
        if "concurrency" in algorithms
    ]


def _utc(moment: float) -> float:
    return 0.0


def _resized(limit: Limit, amount: int) -> Limit:
    return Limit(amount, limit.period, limit.algorithm, limit.calendar)


async def _an_unused_limit_is_whole(trial: Trial, limit: Limit) -> None:
    assert await trial.one(trial.ask("a", limit, 0)) == Taken(True, limit.amount, 0.0, 0.0)
    taken = await trial.one(trial.ask("a", limit))
    assert (taken.allowed, taken.remaining, taken.retry_after) == (True, limit.amount - 1, 0.0)
    assert taken.reset_after > 0.0


async def _rl1_a_thousand_at_once_admit_exactly_the_amount(trial: Trial, limit: Limit) -> None:
    limit = _resized(limit, 100)
    asks = [trial.ask("a", limit) for _ in range(1_000)]
    answers = await asyncio.gather(*(trial.one(ask) for ask in asks))
    assert sum(taken.allowed for taken in answers) == 100
    assert sorted(taken.remaining for taken in answers if taken.allowed) == list(range(100))
    assert await trial.left("a", limit) == 0


async def _a_cost_is_taken_at_once_or_not(trial: Trial, limit: Limit) -> None:
    assert (await trial.one(trial.ask("a", limit, 3))).remaining == 2
    refused = await trial.one(trial.ask("a", limit, 3))
    assert (refused.allowed, refused.remaining) == (False, 2)
    assert 0.0 < refused.retry_after < math.inf
    assert (await trial.one(trial.ask("a", limit, 2))).allowed
    assert not (await trial.one(trial.ask("a", limit))).allowed


async def _what_can_never_fit_says_so(trial: Trial, limit: Limit) -> None:
    refused = await trial.one(trial.ask("a", limit, limit.amount + 1))
    assert (refused.allowed, refused.retry_after) == (False, math.inf)
    assert await trial.left("a", limit) == limit.amount


async def _looking_and_being_refused_spend_nothing(trial: Trial, limit: Limit) -> None:
    await trial.one(trial.ask("a", limit, 2))
    for _ in range(3):
        look = await trial.one(trial.ask("a", limit, 0))
        assert (look.allowed, look.remaining, look.retry_after) == (True, 3, 0.0)
        assert not (await trial.one(trial.ask("a", limit, 4))).allowed


async def _keys_are_counted_apart(trial: Trial, limit: Limit) -> None:
    await trial.one(trial.ask("a", limit, 5))
    assert await trial.left("b", limit) == 5
    assert (await trial.one(trial.ask("A", limit))).allowed
    assert not (await trial.one(trial.ask("a", limit))).allowed


async def _answers_come_in_the_order_of_the_asks(trial: Trial, limit: Limit) -> None:
    limits = [_resized(limit, amount) for amount in (7, 5, 9)]
    answers = await trial.counters.take([trial.ask(str(one.amount), one) for one in limits])
    assert [taken.remaining for taken in answers] == [6, 4, 8]
    assert list(await trial.counters.take([])) == []


async def _rl3_what_one_refuses_costs_nothing_of_the_others(trial: Trial, limit: Limit) -> None:
    wide, narrow = _resized(limit, 9), _resized(limit, 2)

    async def both(cost: int) -> Sequence[tuple[bool, int]]:
        answers = await trial.counters.take([trial.ask("a", wide, cost), trial.ask("b", narrow, cost)])
        return [(taken.allowed, taken.remaining) for taken in answers]

    assert await both(2) == [(True, 7), (True, 0)]
    # What would have fitted says so, and what is left as it is.
    assert await both(1) == [(True, 7), (False, 0)]
    assert await both(8) == [(False, 7), (False, 0)]
    assert (await trial.left("a", wide), await trial.left("b", narrow)) == (7, 0)


async def _rl3_many_at_once_take_of_all_limits_or_of_none(trial: Trial, limit: Limit) -> None:
    wide, narrow = _resized(limit, 60), _resized(limit, 40)

    async def both(turn: bool) -> bool:
        asks = [trial.ask("a", wide), trial.ask("b", narrow)]
        return all(taken.allowed for taken in await trial.counters.take(asks if turn else asks[::-1]))

    passed = await asyncio.gather(*(both(number % 2 == 0) for number in range(200)))
    assert sum(passed) == 40
    assert (await trial.left("a", wide), await trial.left("b", narrow)) == (20, 0)


async def _charging_goes_past_the_limit(trial: Trial, limit: Limit) -> None:
    await trial.one(trial.ask("a", limit, 4))
    await trial.counters.charge([trial.ask("a", limit, 3), trial.ask("b", limit, 2)])
    refused = await trial.one(trial.ask("a", limit))
    assert (refused.allowed, refused.remaining) == (False, 0)
    assert 0.0 < refused.retry_after < math.inf
    assert await trial.left("b", limit) == 3


async def _what_is_given_back_can_be_taken_again(trial: Trial, limit: Limit) -> None:
    await trial.one(trial.ask("a", limit, 5))
    await trial.counters.charge([trial.ask("a", limit, -2)])
    assert await trial.left("a", limit) == 2
    await trial.counters.charge([trial.ask("a", limit, -9), trial.ask("unused", limit, -1)])
    assert await trial.left("a", limit) == 5
    assert await trial.left("unused", limit) == 5


async def _a_debt_is_given_back_before_anything_is_left(trial: Trial, limit: Limit) -> None:
    await trial.counters.charge([trial.ask("a", limit, 8)])
    await trial.counters.charge([trial.ask("a", limit, -3)])
    assert await trial.left("a", limit) == 0
    await trial.counters.charge([trial.ask("a", limit, -1)])
    assert await trial.left("a", limit) == 1


async def _a_reset_forgets_what_was_spent(trial: Trial, limit: Limit) -> None:
    await trial.one(trial.ask("a", limit, 5))
    await trial.one(trial.ask("b", limit, 5))
    await trial.counters.reset([trial.ask("a", limit), trial.ask("unused", limit)])
    assert await trial.one(trial.ask("a", limit, 0)) == Taken(True, 5, 0.0, 0.0)
    assert await trial.left("b", limit) == 0


async def _the_same_key_comes_back_after_a_reset(trial: Trial, limit: Limit) -> None:
    for _ in range(3):
        assert (await trial.one(trial.ask("a", limit, 5))).allowed
        assert not (await trial.one(trial.ask("a", limit))).allowed
        await trial.counters.reset([trial.ask("a", limit)])


async def _what_is_held_is_given_back_by_its_mark(trial: Trial, limit: Limit) -> None:
    first, second = trial.ask("a", limit, 1), trial.ask("a", limit, 3)
    await trial.one(first)
    await trial.one(second)
    await trial.counters.charge([second._replace(cost=-3)])
    assert await trial.left("a", limit) == 4
    # Twice is once, and what nobody holds is nothing.
    await trial.counters.charge([second._replace(cost=-3), trial.ask("unused", limit, -1)])
    assert await trial.left("a", limit) == 4
    await trial.counters.charge([first._replace(cost=-1)])
    assert await trial.one(trial.ask("a", limit, 0)) == Taken(True, 5, 0.0, 0.0)


async def _marks_may_be_large(trial: Trial, limit: Limit) -> None:
    marks = [2**53 - 1, 2**53 - 2, 2**52 + 1]
    for mark in marks:
        await trial.one(trial.ask("a", limit, mark=mark))
    for mark in marks:
        before = await trial.left("a", limit)
        await trial.counters.charge([trial.ask("a", limit, -1, mark)])
        assert await trial.left("a", limit) == before + 1


async def _who_waits_as_told_gets_through(trial: Trial, limit: Limit) -> None:
    await trial.one(trial.ask("a", limit, 3))
    await trial.pass_time(7.25)
    await trial.one(trial.ask("a", limit, 2))
    # A bucket has got something back meanwhile.
    while (refused := await trial.one(trial.ask("a", limit, 2))).allowed:
        pass
    assert _TICK < refused.retry_after < math.inf
    await trial.pass_time(refused.retry_after - _TICK)
    assert not (await trial.one(trial.ask("a", limit, 2))).allowed
    await trial.pass_time(2 * _TICK)
    assert (await trial.one(trial.ask("a", limit, 2))).allowed


async def _all_of_it_is_back_when_they_say(trial: Trial, limit: Limit) -> None:
    await trial.one(trial.ask("a", limit, 3))
    await trial.pass_time(5.5)
    await trial.one(trial.ask("a", limit, 2))
    look = await trial.one(trial.ask("a", limit, 0))
    await trial.pass_time(look.reset_after + _TICK)
    whole = await trial.one(trial.ask("a", limit, 0))
    assert (whole.allowed, whole.remaining) == (True, limit.amount)
    assert (await trial.one(trial.ask("a", limit, limit.amount))).allowed


async def _nothing_is_remembered_for_ever(trial: Trial, limit: Limit) -> None:
    await trial.one(trial.ask("a", limit, 5))
    await trial.pass_time(800 * 86_400.0)
    assert await trial.one(trial.ask("a", limit, 0)) == Taken(True, 5, 0.0, 0.0)


_BY_AMOUNT: Final[tuple[Check, ...]] = (
    _what_is_given_back_can_be_taken_again,
    _a_debt_is_given_back_before_anything_is_left,
)
"""Of algorithms that give back by amount."""

_BY_MARK: Final[tuple[Check, ...]] = (_what_is_held_is_given_back_by_its_mark, _marks_may_be_large)
"""Of those that give back by mark."""

_TOPICS: Final[tuple[Check, ...]] = (
    _an_unused_limit_is_whole,
    _rl1_a_thousand_at_once_admit_exactly_the_amount,
    _a_cost_is_taken_at_once_or_not,
    _what_can_never_fit_says_so,
    _looking_and_being_refused_spend_nothing,
    _keys_are_counted_apart,
    _answers_come_in_the_order_of_the_asks,
    _rl3_what_one_refuses_costs_nothing_of_the_others,
    _rl3_many_at_once_take_of_all_limits_or_of_none,
    _charging_goes_past_the_limit,
    *_BY_AMOUNT,
    _a_reset_forgets_what_was_spent,
    _the_same_key_comes_back_after_a_reset,
)

_TIMELY: Final[tuple[Check, ...]] = (
    _who_waits_as_told_gets_through,
    _all_of_it_is_back_when_they_say,
    _nothing_is_remembered_for_ever,
)
