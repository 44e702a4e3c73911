"""When what happens in a drain."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.gateway.drain import Schedule

times = st.floats(0.0, 100.0, allow_nan=False)
chances = st.floats(0.0, 1.0, exclude_max=True, allow_nan=False)


@pytest.mark.parametrize(
    ("now", "share"), [(100.0, 0.0), (101.0, 0.25), (102.0, 0.5), (103.5, 0.875), (104.0, 1.0), (999.0, 1.0)]
)
def test_the_share_of_closed_connections_rises_over_the_grace(now: float, share: float) -> None:
    assert Schedule(100.0, 4.0, 10.0).share(now) == share


def test_without_a_grace_every_response_closes() -> None:
    assert Schedule(100.0, 0.0, 10.0).share(100.0) == 1.0


@pytest.mark.parametrize(("grace", "timeout"), [(-1.0, 1.0), (1.0, -1.0), (math.nan, 1.0), (1.0, math.nan)])
def test_no_time_is_negative(grace: float, timeout: float) -> None:
    with pytest.raises(ValueError, match="negative"):
        Schedule(0.0, grace, timeout)


@pytest.mark.parametrize(
    ("now", "chance", "moment"),
    [
        (0.0, 0.0, 5.0),
        (0.0, 0.5, 12.5),
        (6.0, 0.0, 6.0),
        (10.0, 0.5, 15.0),
        (20.0, 0.0, 20.0),
        (25.0, 0.5, 30.0),
        (35.0, 0.5, 35.0),
        (40.0, 0.9, 40.0),
    ],
    ids=["at the end of the grace", "until half of the timeout", "there is no earlier", "half of what is left",
         "late ones have until the end", "half of that", "at the end", "after it"],
)  # fmt: skip
def test_the_moment_of_a_stream(now: float, chance: float, moment: float) -> None:
    assert Schedule(0.0, 5.0, 30.0).moment(now, chance) == moment


@given(began=times, grace=times, timeout=times, later=times, chance=chances)
def test_a_moment_is_neither_past_nor_in_the_grace_nor_after_the_end(
    began: float, grace: float, timeout: float, later: float, chance: float
) -> None:
    schedule = Schedule(began, grace, timeout)
    now = began + later
    moment = schedule.moment(now, chance)
    assert moment >= max(now, schedule.grace)
    assert moment <= max(now, schedule.end)
    if now < schedule.spread:
        assert moment <= schedule.spread


@given(times, times, times, times, times)
def test_a_second_schedule_only_shortens(
    grace: float, timeout: float, later: float, grace2: float, timeout2: float
) -> None:
    one, before = Schedule(0.0, grace, timeout), Schedule(0.0, grace, timeout)
    other = Schedule(later, grace2, timeout2)
    one.shorten(other)
    assert one.grace == min(before.grace, other.grace)
    assert one.end == min(before.end, other.end)
    assert one.grace <= one.spread <= one.end
