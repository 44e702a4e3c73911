"""The cache of what was used lately: bounded, right about time, and what is in use stays."""

from __future__ import annotations

import math

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


def test_the_newest_half_is_always_there() -> None:
    cache: RecentCache[int, int] = RecentCache(10)
    for key in range(100):
        cache.put(key, key, 0.0, math.inf)
        assert all(cache.get(one, 0.0) == one for one in range(max(0, key - 4), key + 1))


def test_time_is_over_at_its_end_in_either_half() -> None:
    cache: RecentCache[str, int] = RecentCache(2)
    cache.put("a", 1, 0.0, 5.0)
    assert cache.get("a", 4.9) == 1
    assert cache.get("a", 5.0) is None
    cache.put("a", 1, 0.0, 5.0)
    cache.put("b", 2, 0.0, 50.0)
    assert cache.get("a", 5.0) is None
    assert cache.get("b", 5.0) == 2


def test_a_time_to_live_of_nothing_keeps_nothing() -> None:
    cache: RecentCache[str, int] = RecentCache(2)
    cache.put("a", 1, 0.0, 0.0)
    cache.put("b", 1, 0.0, -1.0)
    assert len(cache) == 0


def test_clear_forgets_both_halves() -> None:
    cache: RecentCache[int, int] = RecentCache(4)
    for key in range(4):
        cache.put(key, key, 0.0, 9.0)
    cache.clear()
    assert [cache.get(key, 0.0) for key in range(4)] == [None] * 4


def test_a_cache_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="two"):
        RecentCache(1)
