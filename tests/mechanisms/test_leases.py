"""Leases: how large they are, when they are renewed, and what becomes of what is left."""

from __future__ import annotations

from math import inf

import pytest

from gatekit.core.counters import Limit, Taken
from gatekit.mechanisms.leases import (
    AGAIN_AFTER,
    HORIZON,
    IDLE,
    LEAD,
    LEAST,
    LIFE,
    SHARE,
    Lease,
    Stand,
    Use,
    answers,
    is_leasable,
)

from .leased import Shared

THOUSAND = Limit(1000, 1.0)
SLOW = Limit(10_000, 100.0)


def busy(limit: Limit = SLOW, now: float = 100.0, uses: int = 40, share: float = SHARE) -> Lease:
    """A lease that has been asked for that much within a moment, and holds nothing yet."""
    lease = Lease(limit, now, share)
    lease.use.add(uses, now)
    return lease


def filled(limit: Limit = SLOW, now: float = 100.0, uses: int = 40, shared: Shared | None = None) -> Lease:
    lease = busy(limit, now, uses)
    wanted = lease.asking(now)
    lease.granted(wanted, *(shared or Shared(limit)).lease(wanted, now), now, now)
    return lease


# -- how large, and of what


@pytest.mark.parametrize(
    ("limit", "leasable"),
    [
        (THOUSAND, True),
        (Limit(100, 60.0, "fixed_window"), True),
        (Limit(100, 60.0, "sliding_window"), True),
        (Limit(99, 60.0), False),
        (Limit(1000, 60.0, "sliding_log"), False),
        (Limit(1000, 60.0, "concurrency"), False),
    ],
    ids=lambda value: value.id if isinstance(value, Limit) else "",
)
def test_small_limits_and_those_that_know_each_request_are_not_leased(limit: Limit, leasable: bool) -> None:
    assert is_leasable(limit) is leasable


def test_a_larger_share_makes_smaller_limits_leasable() -> None:
    assert is_leasable(Limit(20, 1.0), 0.25)


@pytest.mark.parametrize(
    ("uses", "wanted"), [(3, 0), (4, 6), (20, 30), (1_000, 500)], ids=["rare", "just", "some", "capped"]
)
def test_a_lease_is_for_what_is_used_in_the_next_moments_and_a_share_at_most(uses: int, wanted: int) -> None:
    """Used within a tenth of a second."""
    lease = busy(uses=uses)
    if wanted:
        assert lease.asking(100.0) == wanted
        assert lease.stand(1, 100.0) is Stand.LACKS
    else:
        assert lease.stand(1, 100.0) is Stand.COLD
        assert not lease.is_due(100.0)


def test_a_cost_that_is_more_than_a_lease_is_asked_for_alone() -> None:
    assert busy(uses=40).stand(60, 100.0) is Stand.LACKS
    assert busy(uses=40).stand(61, 100.0) is Stand.COLD


def test_use_is_what_there_was_lately() -> None:
    use = Use(0.0)
    for tick in range(100):
        use.add(2, tick / 100)
    assert use.rate == pytest.approx(200, rel=0.1)
    use.add(1, 1.2)
    assert use.rate < 200
    use.add(1, 5.0)
    assert use.rate == pytest.approx(10.0)
    assert use.at == 5.0


# -- spending


def test_what_was_leased_is_spent_here_and_nothing_more() -> None:
    lease = filled(uses=40)
    assert lease.left == 60
    for _ in range(60):
        assert lease.stand(1, 100.0) is Stand.FITS
        lease.spend(1)
    assert lease.left == 0
    assert lease.stand(1, 100.0) is Stand.LACKS


def test_a_cost_may_be_spent_out_of_several_grants() -> None:
    lease = filled(uses=40)
    lease.spend(50)
    wanted = lease.asking(100.1)
    lease.granted(wanted, *Shared(SLOW).lease(wanted, 100.1), 100.1, 100.1)
    lease.spend(15)
    assert lease.left == 45
    # The first is over now, of which nothing is left.
    assert lease.stand(45, 100.0 + LIFE) is Stand.FITS
    assert lease.stand(45, 100.1 + LIFE) is not Stand.FITS


def test_a_lease_ends_with_its_life_and_what_is_left_is_given_back_once() -> None:
    shared = Shared(SLOW)
    shared.take(1_000, 100.0)
    lease = filled(shared=shared)
    lease.spend(10)
    assert lease.stand(1, 100.0 + LIFE - 0.001) is Stand.FITS
    assert lease.give_back(100.0 + LIFE - 0.001) == 0
    assert lease.give_back(100.0 + LIFE) == 50
    assert lease.give_back(100.0 + LIFE) == 0
    assert lease.left == 0


def test_what_the_counter_has_forgotten_by_itself_is_not_given_back() -> None:
    """Sixty of a bucket that gets 100 a second: it is whole again before they are too old."""
    lease = filled(Limit(10_000, 2.0), uses=40)
    assert lease.give_back(101.0) == 0


def test_everything_is_given_back_at_the_end() -> None:
    shared = Shared(SLOW)
    shared.take(1_000, 100.0)
    assert filled(shared=shared).give_back(100.1, everything=True) == 60


@pytest.mark.parametrize("begin", [100.0, 109.9], ids=["in", "near the end"])
def test_nothing_of_a_fixed_window_is_used_or_given_back_in_the_next(begin: float) -> None:
    lease = filled(Limit(10_000, 10.0, "fixed_window"), now=begin)
    assert lease.stand(1, min(begin + LIFE, 110.0) - 0.01) is Stand.FITS
    assert lease.stand(1, 110.0) is not Stand.FITS
    assert lease.give_back(110.0) == 0


def test_what_is_left_of_a_fixed_window_is_given_back_within_it() -> None:
    assert filled(Limit(10_000, 10.0, "fixed_window")).give_back(101.0) == 60


def test_nothing_of_a_sliding_window_is_given_back_when_its_part_is_over() -> None:
    limit = Limit(10_000, 10.0, "sliding_window")
    assert filled(limit, now=105.0).give_back(106.0) == 60
    assert filled(limit, now=109.8).give_back(110.5) == 0


def test_short_periods_have_short_leases() -> None:
    lease = filled(Limit(1_000, 0.4))
    assert lease.stand(1, 100.0 + 0.099) is Stand.FITS
    assert lease.stand(1, 100.0 + 0.1) is not Stand.FITS


# -- renewal


def test_more_is_asked_for_before_it_is_used_up_and_once() -> None:
    lease = filled(uses=40)
    lease.spend(35)
    assert not lease.is_due(100.0)
    lease.spend(1)
    assert lease.is_due(100.0)
    assert lease.asking(100.0) == 36
    assert not lease.is_due(100.0)
    assert lease.asking(100.0) == 0


def test_what_could_not_be_had_is_asked_for_again_a_little_later() -> None:
    lease = busy()
    wanted = lease.asking(100.0)
    lease.failed(wanted, 100.0)
    assert not lease.is_due(100.0)
    # Who needs it now may ask at once: nothing is on its way.
    assert lease.stand(1, 100.0) is Stand.LACKS
    assert lease.asking(100.0) == wanted
    lease.failed(wanted, 100.0)
    assert lease.is_due(100.0 + AGAIN_AFTER)


def test_when_nothing_is_left_requests_are_denied_without_asking() -> None:
    shared = Shared(THOUSAND)
    shared.take(990, 100.0)
    lease = filled(THOUSAND, shared=shared)
    lease.spend(10)
    assert lease.stand(1, 100.0) is Stand.EMPTY
    assert not lease.is_due(100.0)
    assert lease.asking(100.0) == 0
    told = lease.told(False, 100.0)
    assert (told.allowed, told.remaining) == (False, 0)
    # About sixteen requests at this rate.
    assert told.retry_after == pytest.approx(0.04)
    until = 100.0 + told.retry_after
    assert lease.is_due(until - LEAD + 0.0001)
    assert lease.stand(1, until - 0.001) is Stand.EMPTY
    assert lease.stand(1, until) is Stand.LACKS


def test_a_window_that_is_used_up_is_asked_when_it_ends_and_not_before() -> None:
    shared = Shared(Limit(1_000, 1.0, "fixed_window"))
    shared.take(1_000, 100.5)
    lease = filled(Limit(1_000, 1.0, "fixed_window"), now=100.5, shared=shared)
    assert lease.stand(1, 100.999) is Stand.EMPTY
    assert not lease.is_due(100.999)
    assert lease.stand(1, 101.0) is Stand.LACKS


def test_what_the_counter_said_of_one_cost_is_known_too() -> None:
    lease = busy(uses=1)
    lease.exactly(Taken(True, 77, 3.0, 0.0), 1, 100.0)
    assert lease.told(True, 101.0) == Taken(True, 77, 2.0, 0.0)
    lease.exactly(Taken(False, 3, 3.0, 0.4), 9, 100.0)
    assert lease.stand(1, 100.0) is Stand.COLD
    lease.exactly(Taken(False, 0, 3.0, 0.4), 1, 100.0)
    assert lease.stand(1, 100.39) is Stand.EMPTY
    assert lease.stand(1, 100.41) is Stand.COLD
    lease.exactly(Taken(False, 0, 3.0, inf), 20_000, 100.5)


def test_a_look_is_answered_from_what_is_known_while_that_is_new() -> None:
    assert busy().stand(0, 100.0) is Stand.COLD
    assert filled().stand(0, 100.1) is Stand.FITS
    assert filled().stand(0, 100.0 + LIFE) is Stand.COLD


# -- several at once


def test_rl3_what_one_lease_refuses_costs_nothing_of_the_others() -> None:
    shared = Shared(THOUSAND)
    shared.take(1_000, 100.0)
    full, empty, lacking = filled(), filled(THOUSAND, shared=shared), busy()
    found = answers([full, empty], [3, 1], 100.0)
    assert isinstance(found, list)
    assert [taken.allowed for taken in found] == [True, False]
    assert full.left == 60
    # What is empty settles it without asking for what is lacking.
    assert isinstance(answers([lacking, empty], [1, 1], 100.0), list)
    assert isinstance(answers([empty, lacking], [1, 1], 100.0), list)
    assert answers([full, lacking], [1, 1], 100.0) is Stand.LACKS
    assert answers([full, lacking, busy(uses=1)], [1, 1, 1], 100.0) is Stand.COLD
    assert full.left == 60
    both = answers([full, filled()], [3, 1], 100.0)
    assert isinstance(both, list)
    assert [taken.allowed for taken in both] == [True, True]
    assert full.left == 57


def test_the_numbers_fit_together() -> None:
    assert HORIZON < LIFE < IDLE
    assert LEAST > 1
