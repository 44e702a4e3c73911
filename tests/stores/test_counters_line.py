"""The line of questions to a store, and whether the store answers: with a store that answers when the test lets it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from gatekit.core.counters import Ask, Limit, Taken
from gatekit.errors import StoreUnavailable
from gatekit.stores.counters_contact import FAILURES, ONE_EVERY, Contact
from gatekit.stores.counters_line import BATCH, Line
from gatekit.stores.counters_script import TAKE, Answers, Call
from gatekit.testing import ManualClock

from .scene import until

LIMIT = Limit(5, 1.0)
YES = Taken(True, 4, 0.2, 0.0)


def call(asks: int = 1) -> Call:
    return Call(TAKE, [Ask(str(number), LIMIT) for number in range(asks)])


class Store:
    """Answers what it is asked once `gate` is open."""

    def __init__(self) -> None:
        self.flights: list[Sequence[Call]] = []
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, calls: Sequence[Call]) -> Answers:
        self.flights.append(calls)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return Answers([[YES] * len(call.asks) for call in calls], 0)


@pytest.fixture
async def store() -> Store:
    return Store()


@pytest.fixture
def contact() -> Contact:
    return Contact("redis://host:1/0", ManualClock())


def line(store: Store, timeout: float = 5.0, most: int = 2) -> Line:
    return Line(store, timeout, most)


async def test_what_comes_in_one_turn_goes_together_and_what_comes_later_when_there_is_room(
    store: Store, contact: Contact
) -> None:
    one = line(store)
    asked = [one.asked(call(), contact) for _ in range(3)]
    await until(lambda: len(store.flights) == 1)
    for number in range(1, 5):
        asked.append(one.asked(call(), contact))
        await until(lambda number=number: len(store.flights) == min(2, number + 1))  # type: ignore[misc]
    assert [len(flight) for flight in store.flights] == [3, 1]
    store.gate.set()
    assert await asyncio.gather(*asked) == [[YES]] * 7
    assert [len(flight) for flight in store.flights] == [3, 1, 3]


async def test_a_round_trip_has_so_many_asks_at_most_or_one_call(store: Store, contact: Contact) -> None:
    store.gate.set()
    one = line(store)
    await asyncio.gather(*(one.asked(call(3), contact) for _ in range(100)), one.asked(call(BATCH + 50), contact))
    sizes = [sum(len(call.asks) for call in flight) for flight in store.flights]
    assert sum(sizes) == 300 + BATCH + 50
    assert all(size <= BATCH for size in sizes[:-1])
    assert sizes[-1] == BATCH + 50


async def test_places_take_turns(store: Store, contact: Contact) -> None:
    store.gate.set()
    one = line(store, most=1)
    asked = [one.asked(call(), contact, "a") for _ in range(BATCH + 1)]
    asked.append(one.asked(call(), contact, "b"))
    await asyncio.gather(*asked)
    assert [len(flight) for flight in store.flights] == [BATCH, 1, 1]


async def test_each_waits_no_longer_than_its_own_time(store: Store, contact: Contact) -> None:
    one = line(store, timeout=0.05, most=1)
    first = one.asked(call(), contact)
    await until(lambda: store.flights)
    begun = time.monotonic()
    while time.monotonic() < begun + 0.02:
        await asyncio.wait([first], timeout=0.005)
    second = one.asked(call(), contact)
    with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.05 s"):
        await first
    # It was not sent before the first was over.
    await until(lambda: len(store.flights) == 2)
    store.gate.set()
    assert await second == [YES]
    assert contact.failures == 1


async def test_those_who_share_a_flight_end_one_by_one(store: Store, contact: Contact) -> None:
    one = line(store, timeout=0.06, most=1)
    blocked = one.asked(call(), contact, "other")
    await until(lambda: store.flights)
    early = one.asked(call(), contact)
    begun = time.monotonic()
    while time.monotonic() < begun + 0.03:
        await asyncio.wait([early], timeout=0.005)
    late = one.asked(call(), contact)
    with pytest.raises(StoreUnavailable):
        await blocked
    with pytest.raises(StoreUnavailable):
        await early
    assert len(store.flights[-1]) == 2
    store.gate.set()
    assert await late == [YES]


async def test_a_loop_that_was_held_up_is_not_the_stores_fault(contact: Contact) -> None:
    async def answer(calls: Sequence[Call]) -> Answers:
        answered = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.005, answered.set_result, None)
        await answered
        return Answers([[YES] for _ in calls], 0)

    one = Line(answer, 0.02, 1)
    asked = one.asked(call(), contact)
    turned = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turned.set_result, None)
    await turned
    await asyncio.wait([asked], timeout=0.001)
    end = time.monotonic() + 0.06
    while time.monotonic() < end:
        pass
    assert await asked == [YES]
    assert contact.failures == 0


async def test_a_burst_that_stands_in_line_behind_itself_is_no_outage(contact: Contact) -> None:
    """Three flights one after the other take longer than one may, and each of them shorter."""
    flights: list[asyncio.Future[None]] = []

    async def answer(calls: Sequence[Call]) -> Answers:
        answered = asyncio.get_running_loop().create_future()
        flights.append(answered)
        asyncio.get_running_loop().call_later(0.12, answered.set_result, None)
        await answered
        return Answers([[YES] for _ in calls], 0)

    one = Line(answer, 0.2, 1)
    assert await asyncio.gather(*(one.asked(call(), contact) for _ in range(3 * BATCH))) == [[YES]] * (3 * BATCH)
    assert len(flights) == 3
    assert contact.failures == 0


async def test_nobody_stands_in_line_for_ever(contact: Contact) -> None:
    async def answer(calls: Sequence[Call]) -> Answers:
        answered = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.03, answered.set_result, None)
        await answered
        return Answers([[YES] for _ in calls], 0)

    one = Line(answer, 0.05, 1)
    asked = [one.asked(call(BATCH), contact) for _ in range(20)]
    begun = time.monotonic()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert answers[0] == [YES]
    assert isinstance(answers[-1], StoreUnavailable)
    assert time.monotonic() - begun < 20 * 0.03


async def test_when_it_is_down_those_who_wait_are_told_at_once(store: Store, contact: Contact) -> None:
    one = line(store, most=1)
    store.error = StoreUnavailable("gone")
    asked = [one.asked(call(), contact) for _ in range(2 * BATCH)]
    store.gate.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert {str(answer) for answer in answers} == {"gone"}
    assert len({id(answer) for answer in answers}) == 2 * BATCH
    assert len(store.flights) == 1
    assert contact.down


async def test_who_waits_when_the_loop_ends_is_told(store: Store, contact: Contact) -> None:
    one = line(store)
    asked = one.asked(call(), contact)
    await until(lambda: store.flights)
    for flight in list(one._flights):
        flight.cancel()
    with pytest.raises(StoreUnavailable, match="the event loop ended"):
        await asked


async def test_those_who_have_gone_are_told_nothing(store: Store, contact: Contact) -> None:
    for error in (None, StoreUnavailable("gone"), ZeroDivisionError()):
        one, store.error = line(store), error
        store.gate.clear()
        gone, asked = one.asked(call(), contact), one.asked(call(), contact)
        flights = len(store.flights)
        await until(lambda flights=flights: len(store.flights) > flights)  # type: ignore[misc]
        gone.cancel()
        store.gate.set()
        await asyncio.wait([asked])
        assert asked.exception() is error or str(asked.exception()) == str(error)


def test_five_failures_in_a_row_and_it_is_down_until_it_answers(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    contact = Contact("redis://host:1/0", clock)
    contact.failed("why", FAILURES - 1)
    contact.answered()
    contact.failed("why", FAILURES - 1)
    contact.failed("why", 0)
    assert not contact.down
    clock.advance(7)
    contact.failed("redis://host:1/0 is gone")
    assert contact.down
    assert contact.since == clock.wall()
    contact.failed("redis://host:1/0 is gone")
    assert contact.failures == 2 * FAILURES
    contact.answered()
    assert not contact.down
    assert [record.getMessage() for record in caplog.records] == [
        "redis://host:1/0 is gone; nothing is asked of it until it answers again",
        "redis://host:1/0 answers again",
    ]


def test_one_question_a_second_is_let_through_where_no_job_tries() -> None:
    clock = ManualClock()
    contact = Contact("redis://host:1/0", clock)
    contact.failed("why", FAILURES)
    assert not contact.may_ask()
    clock.advance(ONE_EVERY)
    assert [contact.may_ask(), contact.may_ask()] == [True, False]
    contact.tend()
    clock.advance(ONE_EVERY)
    assert not contact.may_ask()
    contact.leave()
    assert contact.may_ask()


def test_a_job_of_the_parent_does_not_try_for_a_forked_child() -> None:
    clock = ManualClock()
    contact = Contact("redis://host:1/0", clock)
    contact.tend()
    contact._tended_in = -1
    contact.failed("why", FAILURES)
    clock.advance(ONE_EVERY)
    assert contact.may_ask()
    contact.tend()
    clock.advance(ONE_EVERY)
    assert not contact.may_ask()
    contact.leave()
    assert contact._tended == 0


async def test_several_may_wait_until_it_is_lost(contact: Contact) -> None:
    waiting = [asyncio.ensure_future(contact.lost()) for _ in range(3)]
    await until(lambda: len(contact._waiting) == 3)
    waiting.pop().cancel()
    await until(lambda: len(contact._waiting) == 2)
    contact.failed("why", FAILURES)
    await asyncio.gather(*waiting)
    await contact.lost()
