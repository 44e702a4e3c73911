"""What an autoscaler goes by: 0 idle, 1 at the limit, above 1 too much."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.policies.overload import saturation
from gatekit.policies.overload.saturation import MOST


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ({}, 0.0),
        ({"in_flight": 100}, 0.0),
        ({"in_flight": 25, "limit": 100}, 0.25),
        ({"in_flight": 100, "limit": 100}, 1.0),
        ({"in_flight": 100, "limit": 100, "waiting": 50}, 1.5),
        ({"late": 0.125, "full": 0.25}, 0.5),
        ({"in_flight": 10, "limit": 100, "late": 0.25, "full": 0.25}, 1.0),
        ({"in_flight": 100, "limit": 100, "shed": 0.5}, 2.0),
        ({"in_flight": 100, "limit": 100, "shed": 0.01}, 1 / 0.99),
        ({"in_flight": 25, "limit": 100, "shed": 0.009}, 0.25),
        ({"shed": 1.0}, MOST),
        ({"in_flight": 10**6, "limit": 1}, MOST),
    ],
)
def test_it_is_the_greatest_of_what_presses(figures: Any, told: float) -> None:
    assert saturation(**figures) == pytest.approx(told)


@given(st.integers(0, 500), st.integers(1, 500), st.integers(0, 500), st.floats(0, 2), st.floats(0, 1))
def test_it_is_bounded_and_never_falls_with_more_to_do(
    in_flight: int, limit: int, waiting: int, late: float, shed: float
) -> None:
    one = saturation(in_flight=in_flight, limit=limit, waiting=waiting, late=late, full=0.25, shed=shed)
    assert 0.0 <= one <= MOST
    assert saturation(in_flight=in_flight + 1, limit=limit, waiting=waiting, late=late, full=0.25, shed=shed) >= one
