"""The cache of what was used lately: bounded, right about time, and what is in use stays."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.mechanisms.recent import RecentCache

KEYS = st.integers(0, 12)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.sampled_from([0.0, 1.0, 5.0, math.inf])),
        st.tuples(st.just("get"), KEYS, st.just(0.0)),
        st.tuples(st.just("discard"), KEYS, st.just(0.0)),
        st.tuples(st.just("wait"), st.just(0), st.sampled_from([0.5, 1.0, 4.0])),
    ),
    max_size=80,
)


@given(STEPS, st.integers(2, 8))
def test_it_never_gives_what_is_over_or_was_never_put_and_is_never_too_large(
    steps: list[tuple[str, int, float]], size: int
) -> None:
    cache: RecentCache[int, int] = RecentCache(size)
    put: dict[int, tuple[int, float]] = {}
    now = 0.0
    for place, (what, key, number) in enumerate(steps):
        if what == "put":
            cache.put(key, place, now, number)
            if number > 0:
                put[key] = (place, now + number)
        elif what == "discard":
            cache.discard(key)
            put.pop(key, None)
        elif what == "wait":
            now += number
        else:
            found = cache.get(key, now)
            if found is not None:
                assert put[key][0] == found
                assert now < put[key][1]
        assert len(cache) <= size


def test_what_is_used_outlasts_what_is_not() -> None:
    cache: RecentCache[int, str] = RecentCache(10)
    cache.put(0, "in use", 0.0, math.inf)
    for key in range(1, 100):
        cache.put(key, "once", 0.0, math.inf)
        assert cache.get(0, 0.0) == "in use"
    assert cache.get(1, 0.0) is None
    assert len(cache) <= 10


def test_the_newest_are_always_there_and_the_oldest_goes_first() -> None:
    cache: RecentCache[int, int] = RecentCache(10)
    for key in range(100):
        cache.put(key, key, 0.0, math.inf)
    assert [cache.get(key, 0.0) for key in range(90, 100)] == list(range(90, 100))
    assert cache.get(89, 0.0) is None


def test_as_many_callers_in_turn_as_there_is_room_for_are_all_known() -> None:
    cache: RecentCache[int, int] = RecentCache(10)
    for _ in range(3):
        for key in range(10):
            if cache.get(key, 0.0) is None:
                cache.put(key, key, 0.0, math.inf)
    assert [cache.get(key, 0.0) for key in range(10)] == list(range(10))


def test_time_is_over_at_its_end() -> None:
    cache: RecentCache[str, int] = RecentCache(2)
    cache.put("a", 1, 0.0, 5.0)
    assert cache.get("a", 4.9) == 1
    assert cache.get("a", 5.0) is None
    assert len(cache) == 0


def test_a_time_to_live_of_nothing_keeps_nothing() -> None:
    cache: RecentCache[str, int] = RecentCache(2)
    cache.put("a", 1, 0.0, 9.0)
    cache.put("a", 1, 0.0, 0.0)
    cache.put("b", 1, 0.0, -1.0)
    assert len(cache) == 0


class Meddled(dict[int, tuple[int, float]]):
    """Another thread got in between two steps."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__({1: (1, math.inf)})
        self.error = error

    def __iter__(self) -> Iterator[int]:
        raise self.error


@pytest.mark.parametrize("error", [RuntimeError, StopIteration])
def test_whoever_meddles_makes_one_too_many_and_no_error(error: type[Exception]) -> None:
    cache: RecentCache[int, int] = RecentCache(1)
    cache._entries = Meddled(error)
    cache.put(2, 2, 0.0, 9.0)
    assert cache.get(2, 0.0) == 2


def test_threads_that_fill_it_at_once_break_nothing() -> None:
    cache: RecentCache[int, int] = RecentCache(50)

    def fill(seed: int) -> int:
        wrong = 0
        for step in range(20_000):
            key = step * seed % 97
            found = cache.get(key, 0.0)
            wrong += found not in (None, key)
            cache.put(key, key, 0.0, math.inf)
        return wrong

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(fill, (1, 3, 5, 7))) == 0
    assert len(cache) <= 50 + 4


def test_clear_forgets_both_halves() -> None:
    cache: RecentCache[int, int] = RecentCache(4)
    for key in range(4):
        cache.put(key, key, 0.0, 9.0)
    cache.clear()
    assert [cache.get(key, 0.0) for key in range(4)] == [None] * 4


def test_a_cache_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        RecentCache(0)
