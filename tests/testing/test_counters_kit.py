"""Every implementation of `Counters` that ships with an in-memory clock, through the whole conformance kit; and that the kit
finds what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from gatekit.core.counters import Ask, Counters, Taken
from gatekit.mechanisms.windows import ALGORITHMS
from gatekit.policies.rate_limit import LocalCounters
from gatekit.testing import FakeCounters, ManualClock
from gatekit.testing.counters import Case, Trial, cases

MAKERS: dict[str, Callable[[ManualClock], Counters]] = {"fake": FakeCounters, "local": LocalCounters}


@pytest.mark.parametrize("case", cases(), ids=str)
@pytest.mark.parametrize("make", MAKERS.values(), ids=list(MAKERS))
async def test_they_conform(make: Callable[[ManualClock], Counters], case: Case) -> None:
    clock = ManualClock()
    await case(Trial(make(clock), clock.advance))


@pytest.mark.parametrize("case", cases(algorithms=["token_bucket"]), ids=str)
async def test_time_may_be_moved_by_a_coroutine(case: Case) -> None:
    clock = ManualClock()

    async def advance(seconds: float) -> None:
        clock.advance(seconds)

    await case(Trial(LocalCounters(clock), advance))


class Twisted:
    """Counters with one thing wrong."""

    def __init__(self, wrong: str, clock: ManualClock) -> None:
        self.wrong = wrong
        self.inner = LocalCounters(clock)

    async def take(self, asks: Sequence[Ask]) -> Sequence[Taken]:
        if self.wrong == "one by one":
            return [(await self.inner.take([ask]))[0] for ask in asks]
        if self.wrong == "keys in lower case":
            asks = [ask._replace(key=ask.key.lower()) for ask in asks]
        if self.wrong == "a look costs":
            asks = [ask._replace(cost=ask.cost or 1) for ask in asks]
        if self.wrong == "one more":
            asks = [ask._replace(cost=max(0, ask.cost - 1)) for ask in asks]
        answers = await self.inner.take(asks)
        if self.wrong == "too early":
            return [taken._replace(retry_after=taken.retry_after / 2) for taken in answers]
        if self.wrong == "too soon whole":
            return [taken._replace(reset_after=taken.reset_after / 2) for taken in answers]
        return answers[::-1] if self.wrong == "backwards" else answers

    async def charge(self, asks: Sequence[Ask]) -> None:
        if self.wrong == "nothing back":
            asks = [ask for ask in asks if ask.cost > 0]
        if self.wrong == "no debts":
            for ask in asks:
                await self.inner.take([ask])
            return
        await self.inner.charge(asks)

    async def reset(self, asks: Sequence[Ask]) -> None:
        if self.wrong != "no reset":
            await self.inner.reset(asks)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@pytest.mark.parametrize(
    "wrong",
    [
        "one by one", "keys in lower case", "a look costs", "one more", "too early", "too soon whole", "backwards",
        "nothing back", "no debts", "no reset",
    ],
)  # fmt: skip
async def test_the_kit_finds(wrong: str, algorithm: str) -> None:
    found = []
    for case in cases(algorithms=[algorithm]):
        clock = ManualClock()
        try:
            await case(Trial(Twisted(wrong, clock), clock.advance))
        except AssertionError:
            found.append(case.topic)
    assert found


def test_what_is_left_out_is_left_out_of_the_list() -> None:
    assert {case.algorithm for case in cases()} == set(ALGORITHMS)
    assert not any(case.moves_time for case in cases(moves_time=False))
    assert not any(case.calendar for case in cases(calendars=False))
    assert {case.algorithm for case in cases(algorithms=["fixed_window"])} == {"fixed_window"}
    assert len({str(case) for case in cases()}) == len(cases())


async def test_a_case_that_moves_time_needs_a_clock_that_moves() -> None:
    case = next(case for case in cases() if case.moves_time)
    with pytest.raises(ValueError, match="moves_time=False"):
        await case(Trial(LocalCounters(ManualClock())))
