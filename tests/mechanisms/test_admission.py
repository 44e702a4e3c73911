"""Fewer requests for what fails, and always some (OV6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.mechanisms.admission import SuccessRate, Terms


def rate(good: int, bad: int, now: float = 100.0) -> SuccessRate:
    made = SuccessRate(30.0)
    for _ in range(good):
        made.add(True, now)
    for _ in range(bad):
        made.add(False, now)
    return made


@pytest.mark.parametrize(
    ("good", "bad", "terms", "chance"),
    [
        (100, 0, Terms(), 0.0),
        (95, 5, Terms(), 0.0),
        (94, 6, Terms(), (100 - 94 / 0.95) / 101),
        (50, 50, Terms(), (100 - 50 / 0.95) / 101),
        (50, 50, Terms(aggression=2.0), ((100 - 50 / 0.95) / 101) ** 0.5),
        (50, 50, Terms(threshold=0.5), 0.0),
        (0, 1000, Terms(), 0.8),
        (0, 19, Terms(), 0.0),
        (0, 20, Terms(), 0.8),
        (0, 20, Terms(most=0.5), 0.5),
        (0, 0, Terms(least=0), 0.0),
    ],
)
def test_ov6_the_chance_is_that_of_the_formula(good: int, bad: int, terms: Terms, chance: float) -> None:
    assert rate(good, bad).chance(terms, 100.0) == pytest.approx(chance)


@given(st.integers(0, 200), st.integers(0, 200), st.floats(1.0, 10.0))
def test_ov6_a_fifth_always_gets_through(good: int, bad: int, aggression: float) -> None:
    assert 0.0 <= rate(good, bad).chance(Terms(aggression=aggression), 100.0) <= 0.8


def test_what_was_longer_ago_than_the_window_is_forgotten() -> None:
    one = rate(0, 100)
    assert one.chance(Terms(), 110.0) == 0.8
    assert one.chance(Terms(), 131.0) == 0.0
