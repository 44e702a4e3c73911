"""The bounded cache, by example and against a slow model."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gatekit.mechanisms.cache import BoundedCache


def test_the_least_recently_used_goes_first() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    cache.put("a", 1, 0.0)
    cache.put("b", 2, 0.0)
    assert cache.get("a", 0.0) == 1
    cache.put("c", 3, 0.0)
    assert (cache.get("a", 0.0), cache.get("b", 0.0), cache.get("c", 0.0)) == (1, None, 3)
    assert len(cache) == 2


def test_an_entry_lives_as_long_as_it_may() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    cache.put("a", 1, 10.0, ttl=5.0)
    assert cache.get("a", 14.9) == 1
    assert "a" in cache
    assert cache.get("a", 15.0) is None
    assert "a" not in cache


def test_putting_again_replaces_and_evicts_nobody() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    cache.put("a", 1, 0.0)
    cache.put("b", 2, 0.0)
    cache.put("a", 3, 0.0)
    assert (cache.get("a", 0.0), cache.get("b", 0.0)) == (3, 2)


def test_discard_and_clear() -> None:
    cache: BoundedCache[str, int] = BoundedCache(4, protects=lambda value, now: value > 1)
    cache.put("open", 1, 0.0)
    cache.put("kept", 2, 0.0)
    cache.discard("open")
    cache.discard("kept")
    cache.discard("never there")
    assert len(cache) == 0
    cache.put("open", 1, 0.0)
    cache.put("kept", 2, 0.0)
    cache.clear()
    assert len(cache) == 0


def test_what_is_protected_outlives_any_number_of_others() -> None:
    cache: BoundedCache[str, int] = BoundedCache(10, protects=lambda value, now: value > 0)
    for index in range(9):
        cache.put(f"kept {index}", 1, 0.0)
    for index in range(1_000):
        cache.put(f"flood {index}", 0, 0.0)
        assert len(cache) <= 10
    assert all(cache.get(f"kept {index}", 0.0) == 1 for index in range(9))


def test_where_all_are_protected_the_oldest_goes() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2, protects=lambda value, now: True)
    for index, key in enumerate("abc"):
        cache.put(key, index, 0.0)
    assert len(cache) == 2
    assert "c" in cache


def test_protection_that_lapsed_is_found_out_when_room_is_needed() -> None:
    cache: BoundedCache[str, float] = BoundedCache(3, protects=lambda value, now: now < value)
    cache.put("lapses", 5.0, 0.0)
    cache.put("stays", 50.0, 0.0)
    cache.put("open", 0.0, 0.0)
    cache.put("new", 0.0, 10.0)
    assert "lapses" not in cache
    assert cache.get("stays", 10.0) == 50.0
    assert cache.get("open", 10.0) == 0.0


def test_an_entry_whose_time_is_over_is_evicted_though_protected() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2, protects=lambda value, now: value > 0)
    cache.put("over", 1, 0.0, ttl=5.0)
    cache.put("open", 0, 0.0)
    cache.put("new", 0, 5.0)
    assert "over" not in cache
    assert "open" in cache


def test_there_must_be_room() -> None:
    with pytest.raises(ValueError, match="at least one"):
        BoundedCache(0)


class CacheMachine(RuleBasedStateMachine):
    """Never too many, never a wrong or stale value, no protected entry evicted while another is there."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: BoundedCache[int, float] = BoundedCache(4, protects=lambda until, now: now < until)
        self.known: dict[int, tuple[float, float]] = {}
        self.now = 0.0

    @rule(key=st.integers(0, 9), kept_for=st.integers(0, 6), ttl=st.integers(1, 20))
    def put(self, key: int, kept_for: int, ttl: int) -> None:
        before = {one for one in self.known if one in self.cache}
        self.cache.put(key, self.now + kept_for, self.now, ttl)
        gone = [one for one in before if one not in self.cache]
        assert len(gone) <= 1
        if gone and self.known[gone[0]][0] > self.now and self.known[gone[0]][1] > self.now:
            # A protected one went: then every other that was there was protected when it was put.
            assert all(self.known[one][0] > self.put_at[one] for one in before - {key})
        self.known[key] = (self.now + kept_for, self.now + ttl)
        self.put_at = {**getattr(self, "put_at", {}), key: self.now}

    put_at: dict[int, float] = {}  # noqa: RUF012 - replaced, never changed

    @rule(key=st.integers(0, 9))
    def get(self, key: int) -> None:
        was_there = key in self.cache
        found = self.cache.get(key, self.now)
        if found is None:
            assert not was_there or self.known[key][1] <= self.now
        else:
            assert (found, True) == (self.known[key][0], self.known[key][1] > self.now)

    @rule(seconds=st.integers(1, 5))
    def passes(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def bounded(self) -> None:
        assert len(self.cache) <= 4


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
