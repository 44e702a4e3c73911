"""RL8: however many strangers come, memory has an end and nobody who is limited is let through for it.

With the figures of the bar, 2,000,000 strangers and room for 100,000, it is `python bench/rate_limits.py --only flood`.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from itertools import count

import pytest

from gatekit import RateLimit
from gatekit.core.counters import Ask, Limit
from gatekit.core.verdict import Reply
from gatekit.mechanisms.windows import ALGORITHMS
from gatekit.policies.rate_limit import LocalCounters
from gatekit.testing import ManualClock, decide, request

ROOM = 500
LIMITED = 50
STRANGERS = 20 * ROOM
DAY = 86_400.0

Asking = Callable[[LocalCounters, str, Sequence[Limit]], bool]

rates = pytest.mark.parametrize("algorithm", sorted(name for name in ALGORITHMS if name != "concurrency"))


def one_by_one(counters: LocalCounters, caller: str, limits: Sequence[Limit]) -> bool:
    return counters.take_one(Ask(f"{caller}|{limits[0].id}", limits[0])).allowed


def together(counters: LocalCounters, caller: str, limits: Sequence[Limit]) -> bool:
    return all(one.allowed for one in counters.take_now([Ask(f"{caller}|{limit.id}", limit) for limit in limits]))


asked = pytest.mark.parametrize(
    "allowed", [pytest.param(one_by_one, id="one limit"), pytest.param(together, id="two limits")]
)


def limits(algorithm: str, amount: int = 3) -> list[Limit]:
    return [Limit(amount, DAY, algorithm), Limit(50 * amount, 7 * DAY, algorithm)]


def use_up(counters: LocalCounters, callers: Sequence[str], given: Sequence[Limit], allowed: Asking) -> None:
    """So that one more is refused, and has been."""
    for caller in callers:
        while allowed(counters, caller, given):
            pass


def names(text: str, number: int) -> list[str]:
    return [f"{text}-{one}" for one in range(number)]


@rates
@asked
def test_rl8_strangers_find_room_and_let_nobody_through(algorithm: str, allowed: Asking) -> None:
    counters, given = LocalCounters(ManualClock(), max_keys=ROOM), limits(algorithm)
    limited = names("limited", LIMITED)
    use_up(counters, limited, given, allowed)
    for stranger in names("stranger", STRANGERS):
        assert allowed(counters, stranger, given)
        assert len(counters) <= ROOM
    assert not [caller for caller in limited if allowed(counters, caller, given)]


@rates
def test_rl8_who_is_limited_stays_so_however_often_others_are_refused(algorithm: str) -> None:
    counters, given = LocalCounters(ManualClock(), max_keys=ROOM), limits(algorithm, 1)
    use_up(counters, names("limited", LIMITED), given, one_by_one)
    for stranger in names("stranger", ROOM - LIMITED):
        assert one_by_one(counters, stranger, given)
        # This one is limited from now on too, and takes up the room of somebody who is.
        assert not one_by_one(counters, stranger, given)
    assert len(counters) <= ROOM
    assert not [caller for caller in names("limited", LIMITED) if one_by_one(counters, caller, given)]


@rates
def test_rl8_where_everybody_is_limited_there_is_still_an_end(algorithm: str) -> None:
    counters, given = LocalCounters(ManualClock(), max_keys=ROOM), limits(algorithm, 1)
    for stranger in names("stranger", 5 * ROOM):
        one_by_one(counters, stranger, given)
        one_by_one(counters, stranger, given)
        assert len(counters) <= ROOM


@rates
def test_rl8_who_is_no_longer_limited_makes_room(algorithm: str) -> None:
    clock = ManualClock()
    counters, given = LocalCounters(clock, max_keys=ROOM), limits(algorithm)
    use_up(counters, names("earlier", ROOM), given, one_by_one)
    # Whatever the algorithm remembers of the window before, all of the limit is back by then.
    clock.advance(2 * DAY)
    limited = names("limited", LIMITED)
    use_up(counters, limited, given, one_by_one)
    for stranger in names("stranger", STRANGERS):
        one_by_one(counters, stranger, given)
    assert len(counters) <= ROOM
    assert not [caller for caller in limited if one_by_one(counters, caller, given)]


def test_rl8_the_policy_keeps_no_more_than_its_max_keys() -> None:
    clock = ManualClock()
    policy = RateLimit("3/day", by="client_ip", max_keys=ROOM).bind(clock=clock)

    def asks(address: str) -> Reply | None:
        return decide(policy, request("GET", "/", client=address))

    addresses = (f"10.{one >> 16}.{one >> 8 & 255}.{one & 255}" for one in count())
    limited = [next(addresses) for _ in range(10)]
    for address in limited:
        while asks(address) is None:
            pass
    for _ in range(2 * ROOM):
        assert asks(next(addresses)) is None
    assert all(asks(address) is not None for address in limited)


def test_rl8_memory_is_level_once_there_is_no_more_room() -> None:
    """Not only the number of keys: nothing else may grow with the number of those who were here."""
    counters, given = LocalCounters(ManualClock(), max_keys=ROOM), limits("token_bucket")
    strangers = (f"stranger-{one}" for one in count())

    def come(number: int) -> None:
        for _ in range(number):
            one_by_one(counters, next(strangers), given)

    come(4 * ROOM)
    tracemalloc.start()
    try:
        come(2 * ROOM)
        before, _ = tracemalloc.get_traced_memory()
        come(10 * ROOM)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # What was there before is not traced, so more of what is there is with each that goes; a key takes about 300 bytes.
    assert after - before < ROOM * 100
