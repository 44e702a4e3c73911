"""Sums of what happened lately, against a list of all that happened."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.mechanisms.tally import Tally


@given(st.booleans(), st.lists(st.tuples(st.integers(0, 60).map(lambda n: n / 4), st.integers(0, 5)), max_size=80))
@settings(max_examples=200, deadline=None)
def test_a_total_covers_what_it_says(spare: bool, steps: list[tuple[float, int]]) -> None:
    tally = Tally(10.0, spare=spare)
    log: list[tuple[float, int]] = []
    now = 100.0
    least, most = (10.0, 11.0) if spare else (9.0, 10.0)
    for passed, amount in steps:
        now += passed
        tally.add(amount, now)
        log.append((now, amount))
        total = tally.total(now)
        assert sum(n for at, n in log if at > now - least) <= total <= sum(n for at, n in log if at > now - most)


def test_time_that_goes_back_stands_still() -> None:
    tally = Tally(10.0)
    tally.add(1, 50.0)
    tally.add(1, 20.0)
    assert tally.total(20.0) == 2
    assert tally.total(59.0) == 2
    assert tally.total(60.0) == 0


def test_what_was_added_can_be_taken_back_until_it_is_forgotten() -> None:
    tally = Tally(10.0)
    slice_ = tally.add(3, 50.0)
    tally.add(4, 55.0)
    tally.take_back(1, slice_, 59.9)
    assert tally.total(59.9) == 6
    tally.take_back(1, slice_, 60.0)
    assert tally.total(60.0) == 4


@pytest.mark.parametrize("spare", [False, True])
def test_cleared_is_empty(spare: bool) -> None:
    tally = Tally(10.0, spare=spare)
    tally.add(3, 50.0)
    tally.clear()
    assert tally.total(50.0) == 0
    tally.add(2, 50.0)
    assert tally.total(50.0) == 2
