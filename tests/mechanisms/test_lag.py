"""How late a loop is, and what share of requests that costs (OV4)."""

from __future__ import annotations

import math

import pytest

from gatekit.mechanisms.lag import STOPPED, Lag


def lag() -> Lag:
    return Lag(0.05, 0.25)


def test_without_a_loop_there_is_no_lag() -> None:
    one = lag()
    assert (one.late(100.0), one.share(100.0), one.calm_until) == (0.0, 0.0, math.inf)


@pytest.mark.parametrize(
    ("late", "share"), [(0.0, 0.0), (0.05, 0.0), (0.1, 0.25), (0.15, 0.5), (0.25, 1.0), (3.0, 1.0)]
)
def test_ov4_shedding_begins_at_50_ms_and_is_full_at_250_ms_and_linear_between(late: float, share: float) -> None:
    one = lag()
    one.enter(10.0)
    assert one.late(10.0 + late) == pytest.approx(late)
    assert one.share(10.0 + late) == pytest.approx(share)
    assert (10.0 + late > one.calm_until) is (share > 0.0), "what is asked of every request says the same"


def test_a_lateness_fades_with_each_beat_in_time() -> None:
    one = lag()
    beat = one.enter(10.0)
    one.came(beat, 10.2, 10.25)
    assert one.late(10.2) == pytest.approx(0.2)
    assert one.calm_until == -math.inf
    for number, left in enumerate((0.1, 0.05)):
        due = 10.25 + 0.05 * number
        one.came(beat, due, due + 0.05)
        assert one.late(due) == pytest.approx(left)
    assert one.calm_until == pytest.approx(10.4)


def test_the_latest_of_several_loops_counts() -> None:
    one = lag()
    first, second = one.enter(10.0), one.enter(10.0)
    one.came(first, 10.1, 10.15)
    assert one.late(10.1) == pytest.approx(0.1)
    one.came(second, 10.2, 10.25)
    assert one.late(10.2) == pytest.approx(0.2)
    one.leave(second)
    assert one.late(10.2) == pytest.approx(0.1)


def test_a_long_stand_is_not_remembered_for_longer_than_a_short_one() -> None:
    one = lag()
    beat = one.enter(10.0)
    one.came(beat, 15.0, 15.05)
    assert one.late(15.0) == 0.25


def test_a_loop_that_has_ended_is_not_late() -> None:
    one = lag()
    one.enter(10.0)
    assert one.share(10.0 + STOPPED) == 1.0
    assert one.share(10.0 + STOPPED + 0.001) == 0.0


@pytest.mark.parametrize(("begin", "full"), [(0.2, 0.2), (0.3, 0.2), (-0.1, 0.2)])
def test_it_begins_before_it_is_full(begin: float, full: float) -> None:
    with pytest.raises(ValueError, match="begins"):
        Lag(begin, full)
