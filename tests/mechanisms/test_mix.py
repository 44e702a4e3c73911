"""Whom it hits when a share of what comes must be shed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.mechanisms.mix import FORGET, Mix


def mix(*came: int, shed: int = 0) -> Mix:
    made = Mix(4, 0.0)
    made.came[:] = came
    made.shed = shed
    made.turn(0.0)
    return made


@pytest.mark.parametrize(
    ("came", "share", "chances"),
    [
        ((0, 100, 0, 0), 0.5, (0.0, 0.5, 1.0, 1.0)),
        ((25, 25, 25, 25), 0.25, (0.0, 0.0, 0.0, 1.0)),
        ((25, 25, 25, 25), 0.5, (0.0, 0.0, 1.0, 1.0)),
        ((25, 25, 25, 25), 0.625, (0.0, 0.5, 1.0, 1.0)),
        ((25, 25, 25, 25), 0.1, (0.0, 0.0, 0.0, 0.4)),
        ((0, 0, 0, 0), 0.3, (0.3, 0.3, 0.3, 0.3)),
        ((1, 1, 1, 1), 1.0, (1.0, 1.0, 1.0, 1.0)),
        ((1, 1, 1, 1), 1.5, (1.0, 1.0, 1.0, 1.0)),
        ((1, 1, 1, 1), 0.0, (0.0, 0.0, 0.0, 0.0)),
        ((10, 0, 0, 0), 0.5, (0.5, 1.0, 1.0, 1.0)),
        ((0, 10, 0, 10), 0.75, (0.0, 0.5, 1.0, 1.0)),
    ],
)
def test_the_least_important_are_hit_first(came: tuple[int, ...], share: float, chances: tuple[float, ...]) -> None:
    assert mix(*came).chances(share) == pytest.approx(chances)


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=4).filter(any), st.floats(0.0, 1.0))
def test_as_much_is_shed_as_was_asked_and_never_a_higher_level_before_a_lower(came: list[int], share: float) -> None:
    chances = mix(*came).chances(share)
    assert sum(chance * count for chance, count in zip(chances, came, strict=True)) == pytest.approx(
        share * sum(came), abs=1e-6 * sum(came)
    )
    assert list(chances) == sorted(chances)
    assert sum(1 for chance in chances if 0.0 < chance < 1.0) <= 1, "of no level any as long as a lower one is let in"


def test_what_came_is_forgotten_and_what_comes_counts() -> None:
    one = mix(5, 0, 0, 0)
    assert one.above() == (False, True, True, True)
    one.turn(8 * FORGET)
    assert one.above() == (False, False, False, False)
    one.came[2] = 1
    one.turn(8 * FORGET)
    assert one.above() == (False, False, False, True)


def test_time_that_goes_back_changes_nothing() -> None:
    one = mix(4, 0, 0, 0, shed=1)
    one.turn(-100.0)
    assert one.shed_share() == 0.25


@pytest.mark.parametrize(
    ("came", "shed", "share"), [((0, 0, 0, 0), 0, 0.0), ((4, 4, 0, 0), 2, 0.25), ((1, 0, 0, 0), 3, 1.0)]
)
def test_the_share_that_was_shed(came: tuple[int, ...], shed: int, share: float) -> None:
    assert mix(*came, shed=shed).shed_share() == share
