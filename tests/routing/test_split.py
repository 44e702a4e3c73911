"""Weighted splits."""

from __future__ import annotations

import random
from collections import Counter
from math import nextafter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.routing.split import Split

PARTS = (("a", 70), ("b", 30), ("c", 0))


@pytest.mark.parametrize(("count", "points"), [(500, 5.0), (10_000, 1.0)])
def test_rt2_random_picks_fall_as_the_weights_say(count: int, points: float) -> None:
    chance = random.Random(20_240_229)
    split = Split(PARTS)
    picked = Counter(split.pick(chance.random()) for _ in range(count))
    assert picked["c"] == 0
    assert abs(picked["a"] * 100 / count - 70) <= points
    assert abs(picked["b"] * 100 / count - 30) <= points


@pytest.mark.parametrize(("count", "points"), [(500, 5.0), (10_000, 1.0)])
def test_rt2_picks_by_key_fall_as_the_weights_say(count: int, points: float) -> None:
    split = Split(PARTS)
    picked = Counter(split.pick_hash(b"user-%d" % number, b"checkout") for number in range(count))
    assert picked["c"] == 0
    assert abs(picked["a"] * 100 / count - 70) <= points


def test_a_key_always_gets_the_same_part_and_another_salt_chooses_anew() -> None:
    keys = [b"%d" % number for number in range(200)]
    one = [Split(PARTS).pick_hash(key, b"one") for key in keys]
    assert one == [Split(PARTS).pick_hash(key, b"one") for key in keys]
    assert one != [Split(PARTS).pick_hash(key, b"two") for key in keys]


@given(
    st.lists(st.integers(0, 2**40), min_size=1, max_size=6).filter(any), st.sampled_from([0.0, 0.5, nextafter(1, 0)])
)
def test_no_pick_falls_outside_or_on_a_weight_of_zero(weights: list[int], value: float) -> None:
    assert weights[Split(list(enumerate(weights))).pick(value)] > 0


@pytest.mark.parametrize("weights", [[], [0], [0, 0]])
def test_a_split_without_weight_is_refused(weights: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one part with a weight above 0"):
        Split(list(enumerate(weights)))


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="-1 of 'b' is negative; write 0"):
        Split([("a", 1), ("b", -1)])
