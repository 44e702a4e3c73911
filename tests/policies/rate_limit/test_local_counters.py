"""Counters in this process: what they keep, what goes first, and which clock they go by. That they count right is shown by
the conformance kit (tests/testing/test_counters_kit.py)."""

from __future__ import annotations

import math
import random
import threading

import pytest

from gatekit.core.counters import Ask, Limit, Taken
from gatekit.mechanisms.calendar import CalendarWindow
from gatekit.mechanisms.windows import ALGORITHMS, Window, window_of
from gatekit.policies.rate_limit import LocalCounters
from gatekit.policies.rate_limit import local as module
from gatekit.testing import ManualClock

HOUR = 3_600.0
TWO = Limit(2, HOUR)
MANY = Limit(100, HOUR)


def fill(counters: LocalCounters, count: int, limit: Limit = MANY, name: str = "key") -> None:
    for number in range(count):
        counters.take_one(Ask(f"{name} {number}", limit))


def left(counters: LocalCounters, key: str, limit: Limit = MANY) -> int:
    return counters.take_one(Ask(key, limit, 0)).remaining


def use_up(counters: LocalCounters, key: str, limit: Limit) -> None:
    while counters.take_one(Ask(key, limit)).allowed:
        pass


def test_there_is_room_for_one_key_at_least() -> None:
    with pytest.raises(ValueError, match="max_keys is 1 or more"):
        LocalCounters(ManualClock(), max_keys=0)
    counters = LocalCounters(ManualClock(), max_keys=1)
    fill(counters, 3)
    assert len(counters) == 1
    use_up(counters, "a", TWO)
    use_up(counters, "b", TWO)
    assert len(counters) == 1
    assert left(counters, "a", TWO) == 2


def test_the_key_that_was_used_least_recently_goes_first() -> None:
    """In exactly that order, against a list that is sorted by use."""
    dice, clock = random.Random(3), ManualClock()
    counters, used = LocalCounters(clock, max_keys=300), list[str]()
    for _ in range(6_000):
        clock.advance(0.01)
        key = f"key {dice.randrange(900)}"
        if dice.random() < 0.1:
            counters.charge_now([Ask(key, MANY)])
        else:
            counters.take_one(Ask(key, MANY))
        if key in used:
            used.remove(key)
        used.append(key)
        used = used[-300:]
    assert len(counters) == 300
    assert list(counters._open) == used


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_rl8_a_flood_of_keys_frees_nobody_who_is_limited(name: str) -> None:
    clock = ManualClock()
    counters, limit = LocalCounters(clock, max_keys=200), Limit(2, HOUR, name)
    limited = [f"limited {number}" for number in range(60)]
    for key in limited:
        use_up(counters, key, limit)
    for number in range(5_000):
        clock.advance(0.001)
        counters.take_one(Ask(f"attacker {number}", limit))
    assert len(counters) == 200
    assert not any(counters.take_one(Ask(key, limit)).allowed for key in limited)


def test_whoever_is_limited_no_longer_goes_like_everybody_else() -> None:
    clock = ManualClock()
    counters, second = LocalCounters(clock, max_keys=50), Limit(1, 1.0)
    for number in range(40):
        use_up(counters, f"limited {number}", second)
    clock.advance(2.0)
    fill(counters, 200)
    assert len(counters) == 50
    assert not any(spender.key.startswith("limited") for spender in counters.top("", 50))
    assert list(counters._open) == [f"key {number}" for number in range(150, 200)]


def test_who_is_limited_again_is_limited_for_longer() -> None:
    clock = ManualClock()
    counters, minute = LocalCounters(clock, max_keys=2), Limit(1, 60.0)
    use_up(counters, "a", minute)
    clock.advance(50.0)
    counters.charge_now([Ask("a", minute, 5)])
    # Its first sentence is over, the second is not.
    clock.advance(20.0)
    fill(counters, 20)
    assert not counters.take_one(Ask("a", minute)).allowed


def test_who_was_given_something_back_is_limited_no_longer() -> None:
    clock = ManualClock()
    counters = LocalCounters(clock, max_keys=3)
    use_up(counters, "a", TWO)
    counters.charge_now([Ask("a", TWO, -1)])
    fill(counters, 2)
    clock.advance(HOUR)
    # Its sentence, which it need not sit out, has ended. It was used least recently.
    fill(counters, 1, name="other")
    assert [len(counters), len(counters._until)] == [3, 0]
    assert left(counters, "a", TWO) == 2


def test_among_those_who_are_limited_the_first_to_be_free_goes_first() -> None:
    counters = LocalCounters(ManualClock(), max_keys=3)
    for key, seconds in (("long", 1_000.0), ("short", 10.0), ("longer", 2_000.0), ("new", 500.0)):
        use_up(counters, key, Limit(1, seconds))
    assert len(counters) == 3
    assert left(counters, "short", Limit(1, 10.0)) == 1
    assert left(counters, "long", Limit(1, 1_000.0)) == left(counters, "longer", Limit(1, 2_000.0)) == 0


def test_the_times_of_keys_that_are_gone_are_not_kept_for_ever() -> None:
    clock = ManualClock()
    counters, day = LocalCounters(clock, max_keys=50), Limit(1, 86_400.0)
    month = Limit(2, 30 * 86_400.0)
    for number in range(5_000):
        counters.take_one(Ask(f"once a day {number}", day))
        counters.take_one(Ask("again", month, 2))
        counters.reset_now([Ask("again", month)])
    assert len(counters) == 50 - 1
    assert len(counters._until) <= 50
    assert len(counters._lapses) <= 2 * 50 + 8
    for number in range(20):
        use_up(counters, f"forgotten {number}", month)
        counters.reset_now([Ask(f"forgotten {number}", month)])
        use_up(counters, f"given back {number}", month)
        counters.charge_now([Ask(f"given back {number}", month, -2)])
        use_up(counters, f"open again {number}", month)
        counters.charge_now([Ask(f"open again {number}", month, -1)])
    fill(counters, 50)
    assert set(counters._until) <= set(counters._open) | set(counters._kept)


def test_who_is_refused_again_and_again_is_noted_once() -> None:
    counters = LocalCounters(ManualClock())
    for _ in range(100):
        counters.take_one(Ask("a", TWO))
    assert (len(counters._until), len(counters._lapses)) == (1, 1)


def test_who_has_taken_the_last_of_it_counts_as_limited_before_he_is_refused() -> None:
    counters = LocalCounters(ManualClock(), max_keys=3)
    counters.take_one(Ask("a", TWO))
    assert counters.take_one(Ask("a", TWO)) == Taken(True, 0, HOUR, 0.0)
    fill(counters, 20)
    assert not counters.take_one(Ask("a", TWO)).allowed


def test_who_may_not_pay_the_price_counts_as_limited_though_something_is_left() -> None:
    clock, dear = ManualClock(), Limit(7, HOUR)
    counters = LocalCounters(clock, max_keys=2)
    assert counters.take_one(Ask("dear", dear, 4)).remaining == 3
    fill(counters, 20)
    assert not counters.take_one(Ask("dear", dear, 4)).allowed


def test_what_can_never_fit_keeps_nobody() -> None:
    counters = LocalCounters(ManualClock(), max_keys=4)
    assert counters.take_one(Ask("unused", TWO, 3)).retry_after == math.inf
    assert len(counters) == 0
    counters.take_one(Ask("used", TWO))
    assert counters.take_one(Ask("used", TWO, 3)).retry_after == math.inf
    fill(counters, 5)
    assert left(counters, "used", TWO) == 2


def test_nothing_is_kept_of_who_has_spent_nothing() -> None:
    counters = LocalCounters(ManualClock())
    for cost in (0, 101):
        counters.take_one(Ask("a", MANY, cost))
        counters.take_now([Ask("a", MANY, cost), Ask("b", MANY, cost)])
    counters.charge_now([Ask("a", MANY, -1)])
    assert len(counters) == 0
    counters.take_one(Ask("a", MANY, 2))
    counters.charge_now([Ask("a", MANY, -2)])
    assert len(counters) == 0


def test_looking_at_who_is_limited_does_not_make_him_go_sooner() -> None:
    counters = LocalCounters(ManualClock(), max_keys=3)
    use_up(counters, "a", TWO)
    assert left(counters, "a", TWO) == 0
    fill(counters, 9)
    assert left(counters, "a", TWO) == 0


def test_several_asks_are_answered_and_charged_together() -> None:
    counters = LocalCounters(ManualClock())
    asks = [Ask("a", Limit(1, 60.0)), Ask("b", Limit(5, 60.0))]
    assert [one.allowed for one in counters.take_now(asks)] == [True, True]
    assert [one.allowed for one in counters.take_now(asks)] == [False, True]
    assert counters.take_now(asks)[1] == Taken(True, 4, 12.0, 0.0)
    assert counters.take_now(asks[1:]) == (Taken(True, 3, 24.0, 0.0),)
    assert counters.take_now([]) == []
    assert len(counters) == 2
    counters.reset_now(asks)
    assert len(counters) == 0


def test_a_key_that_a_refused_take_was_new_to_is_not_kept() -> None:
    counters = LocalCounters(ManualClock())
    use_up(counters, "a", TWO)
    assert [one.allowed for one in counters.take_now([Ask("new", MANY), Ask("a", TWO)])] == [True, False]
    assert len(counters) == 1


def utc(moment: float) -> float:
    return 0.0


def test_calendars_go_by_the_wall_clock_and_all_else_by_the_monotonic_one() -> None:
    clock = ManualClock(monotonic=1_000.0, wall=86_400.0 * 20_000 + 86_000.0)
    counters = LocalCounters(clock, max_keys=3)
    day, hour = Limit(2, 86_400.0, "fixed_window", CalendarWindow("day", "UTC", utc)), Limit(2, HOUR, "fixed_window")
    asks = [Ask("day", day), Ask("hour", hour)]
    counters.take_now(asks)
    counters.take_now(asks)
    assert [one.retry_after for one in counters.take_now(asks)] == [400.0, 2_600.0]
    fill(counters, 9)
    assert not counters.take_one(Ask("day", day)).allowed
    clock.set_wall(86_400.0 * 20_001)
    assert [one.allowed for one in counters.take_now(asks)] == [True, False]
    counters.charge_now(asks)
    assert counters.take_one(Ask("day", day)).allowed
    clock.set_wall(86_400.0 * 19_000)
    assert not counters.take_one(Ask("day", day)).allowed


def test_one_ask_by_calendar_goes_by_the_wall_clock() -> None:
    clock = ManualClock(monotonic=1_000.0, wall=86_400.0 * 20_000 + 86_000.0)
    counters, day = (
        LocalCounters(clock, max_keys=3),
        Limit(1, 86_400.0, "fixed_window", CalendarWindow("day", "UTC", utc)),
    )
    assert counters.take_one(Ask("a", day)) == Taken(True, 0, 400.0, 0.0)
    assert counters.take_one(Ask("a", day)).retry_after == 400.0
    fill(counters, 9)
    assert not counters.take_one(Ask("a", day)).allowed
    # Until when is kept on the monotonic clock: a day later it is no longer limited, and goes like others.
    clock.advance(400.0)
    fill(counters, 9)
    assert "a" not in counters._kept
    assert "a" not in counters._open
    assert counters.take_one(Ask("a", day)).allowed


class Guard:
    """A lock that knows whether it is held."""

    held = False

    def __enter__(self) -> None:
        assert not self.held
        self.held = True

    def __exit__(self, *why: object) -> None:
        self.held = False


def test_time_and_counts_are_read_under_the_lock() -> None:
    guard, clock = Guard(), ManualClock()

    class Guarded:
        def monotonic(self) -> float:
            assert guard.held
            return clock.monotonic()

        def wall(self) -> float:
            assert guard.held
            return clock.wall()

    counters = LocalCounters(Guarded(), lambda: guard, max_keys=1)
    counters.take_one(Ask("a", TWO))
    counters.take_now([Ask("a", TWO), Ask("b", TWO)])
    counters.charge_now([Ask("c", TWO)])
    counters.top("", 3)
    with pytest.raises(ValueError, match="no algorithm"):
        counters.take_one(Ask("a", Limit(1, 1.0, "none")))
    assert not guard.held


def test_rl1_threads_admit_exactly_the_amount() -> None:
    counters, passed = LocalCounters(ManualClock(), threading.Lock), list[int]()

    def ask() -> None:
        passed.append(sum(counters.take_one(Ask("a", MANY)).allowed for _ in range(250)))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(passed) == 100


def test_a_limit_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Limit] = []

    def compiling(limit: Limit) -> Window:
        compiled.append(limit)
        return window_of(limit)

    monkeypatch.setattr(module, "window_of", compiling)
    counters = LocalCounters(ManualClock())
    fill(counters, 20, TWO)
    counters.take_now([Ask("a", TWO), Ask("b", MANY)])
    assert compiled == [TWO, MANY]
    # What is kept of limits is bounded as well, and a limit that came anew into the place of another is none of it.
    for amount in range(1, 5_000):
        assert counters.take_one(Ask("one", Limit(amount, HOUR), 0)).remaining == amount
    assert len(counters._windows) <= 4_096


def test_the_top_are_those_who_have_spent_most_of_their_limit() -> None:
    clock = ManualClock()
    counters = LocalCounters(clock)
    small, large = Limit(10, 60.0), Limit(1_000, 600.0)
    for name, limit, cost in (
        ("ann", small, 3), ("bob", large, 900), ("cid", small, 10), ("dan", large, 1), ("eve", small, 10),
    ):  # fmt: skip
        counters.take_one(Ask(f"rule|{limit.id}|{name}", limit, cost))
        counters.take_one(Ask(f"other|{limit.id}|{name}", limit, cost))
    counters.charge_now([Ask(f"rule|{small.id}|eve", small, 20)])
    found = counters.top("rule|", 4)
    assert [spender.key.rpartition("|")[2] for spender in found] == ["eve", "cid", "bob", "ann"]
    assert [spender.limit for spender in found] == [small, small, large, small]
    assert found[2].taken == Taken(True, 100, 540.0, 0.0)
    # As it is now, not as it was when it was spent.
    clock.advance(60.0)
    assert [spender.key.rpartition("|")[2] for spender in counters.top("rule|", 2)] == ["eve", "bob"]
    assert counters.top("nothing", 2) == []


def test_the_top_takes_the_id_of_a_limit_whole() -> None:
    counters = LocalCounters(ManualClock())
    first, second = Limit(5, 6.0), Limit(5, 60.0)
    counters.take_one(Ask(f"a|{second.id}", second, 2))
    counters.take_one(Ask("nameless", first))
    counters.take_one(Ask(f"a|{second.id}0", first))
    assert [(spender.key, spender.limit) for spender in counters.top("", 9)] == [(f"a|{second.id}", second)]
    assert LocalCounters(ManualClock()).top("", 9) == []


def test_the_top_knows_calendars() -> None:
    clock = ManualClock()
    counters, limit = LocalCounters(clock), Limit(5, 86_400.0, "fixed_window", CalendarWindow("day", "Etc/GMT+5", utc))
    counters.take_one(Ask(f"a|{limit.id}|b", limit, 2))
    clock.set_wall(clock.wall() + 86_400.0)
    (spender,) = counters.top("a", 1)
    assert spender.taken.remaining == 5


def test_a_key_that_is_limited_for_longer_than_before_goes_later() -> None:
    clock = ManualClock()
    counters = LocalCounters(clock, max_keys=2)
    use_up(counters, "in debt", TWO)
    use_up(counters, "limited", TWO)
    counters.charge_now([Ask("in debt", TWO, 8)])
    # Both are limited, and the one that would be free again first makes room.
    use_up(counters, "another", TWO)
    assert left(counters, "in debt", TWO) == 0
    assert left(counters, "limited", TWO) == 2


def test_a_key_that_was_reset_is_no_longer_among_the_limited() -> None:
    counters = LocalCounters(ManualClock(), max_keys=2)
    for key in ("a freed one", "limited", "another"):
        use_up(counters, key, TWO)
        if key.startswith("a freed"):
            counters.reset_now([Ask(key, TWO)])
    assert left(counters, "limited", TWO) == left(counters, "another", TWO) == 0
    use_up(counters, "one more", TWO)
    assert len(counters) == 2
