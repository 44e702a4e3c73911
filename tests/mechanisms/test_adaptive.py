"""A limit that follows latency: each rule by itself. How they do together is shown in a simulation
(tests/policies/overload/test_bars.py)."""

from __future__ import annotations

import pytest

from gatekit.mechanisms.adaptive import BACKOFF, CUT, ENOUGH, FEW, GROWTH, LONGEST, REST, SPAN, Adaptive, Terms

TERMS = Terms(floor=2, ceiling=1000, initial=100)


class Windows:
    """One window after the other, on a clock of its own."""

    def __init__(self, terms: Terms = TERMS) -> None:
        self.now = 0.0
        self.terms = terms
        self.one = Adaptive(terms, 0.0)

    def pass_(
        self, latency: float, *, peak: int | None = None, shedding: bool = False, count: int = ENOUGH, drops: int = 0,
        seconds: float = SPAN,
    ) -> float:  # fmt: skip
        """A window in which everything took so long; the limit was reached unless `peak` says otherwise."""
        self.one.latencies += [latency] * count
        self.one.drops += drops
        self.now += seconds
        assert self.one.turn(self.terms, int(self.one.limit) if peak is None else peak, shedding, self.now)
        return self.one.limit


@pytest.fixture
def windows() -> Windows:
    return Windows()


@pytest.mark.parametrize(
    ("count", "drops", "seconds", "enough"),
    [
        (ENOUGH, 0, SPAN, True),
        (ENOUGH, 0, SPAN - 0.01, False),
        (ENOUGH - 1, 0, SPAN, False),
        (ENOUGH - 1, 1, SPAN, True),
        (FEW, 0, LONGEST - 0.01, False),
        (FEW, 0, LONGEST, True),
        (FEW - 1, 0, LONGEST, False),
    ],
)
def test_it_moves_when_there_is_enough_to_go_by(count: int, drops: int, seconds: float, enough: bool) -> None:
    one = Adaptive(TERMS, 0.0)
    one.latencies = [0.1] * count
    one.drops = drops
    assert one.turn(TERMS, 100, False, seconds) is enough
    assert (len(one.latencies) == 0) is enough, "what was looked at is not looked at again"


def test_it_grows_while_latency_stays_as_it_was(windows: Windows) -> None:
    assert windows.pass_(0.1) == pytest.approx(100 * GROWTH)
    assert windows.pass_(0.1) == pytest.approx(100 * GROWTH**2)
    assert windows.one.baseline == pytest.approx(0.1)


@pytest.mark.parametrize(("peak", "grows"), [(50, True), (49, False)])
def test_it_grows_only_where_half_of_it_is_used(windows: Windows, peak: int, grows: bool) -> None:
    assert (windows.pass_(0.1, peak=peak) > 100) is grows


def test_it_never_leaves_floor_and_ceiling(windows: Windows) -> None:
    windows.terms = Terms(floor=90, ceiling=102, initial=100)
    assert windows.pass_(0.1) == 102
    for _ in range(10):
        windows.pass_(0.1, drops=ENOUGH)
    assert windows.one.limit == 90
    windows.one.turn(Terms(floor=95, ceiling=200), 0, False, windows.now)
    assert windows.one.limit == 95, "another floor holds at once"


def test_where_some_are_turned_away_it_falls_with_a_little_latency(windows: Windows) -> None:
    windows.pass_(0.1, shedding=True)
    before = windows.one.limit
    assert windows.pass_(0.12, shedding=True) == pytest.approx(before * 1.06 * 0.1 / 0.12, rel=0.01)


def test_where_nobody_is_turned_away_it_stays_with_a_little_latency_and_falls_with_much(windows: Windows) -> None:
    windows.pass_(0.1)
    before = windows.one.limit
    assert windows.pass_(0.14) == before
    assert windows.pass_(0.18) == pytest.approx(before * 1.5 * 0.1 / 0.18, rel=0.01)


def test_ov2_it_is_never_cut_below_what_is_under_way_while_it_is_not_reached(windows: Windows) -> None:
    windows.pass_(0.1, peak=80)
    assert windows.pass_(1.0, peak=80) == 80.0


def test_one_window_cuts_it_by_a_quarter_at_most(windows: Windows) -> None:
    windows.pass_(0.1)
    before = windows.one.limit
    assert windows.pass_(5.0) == pytest.approx(before * CUT)


@pytest.mark.parametrize(("drops", "peak", "falls"), [(3, 100, False), (4, 100, True), (4, 49, False)])
def test_timeouts_lower_it(windows: Windows, drops: int, peak: int, falls: bool) -> None:
    limit = windows.pass_(0.1, drops=drops, peak=peak)
    assert (limit == pytest.approx(100 * BACKOFF)) is falls


def test_a_window_of_nothing_but_drops_lowers_it_too(windows: Windows) -> None:
    assert windows.pass_(0.0, count=0, drops=ENOUGH) == pytest.approx(100 * BACKOFF)


def test_ignored_outcomes_say_nothing(windows: Windows) -> None:
    windows.now += 10.0
    assert not windows.one.turn(TERMS, 100, False, windows.now)
    assert windows.one.limit == 100.0


def test_the_baseline_follows_down_slowly_with_noise_and_soon_with_a_change(windows: Windows) -> None:
    windows.pass_(0.1)
    windows.pass_(0.095)
    assert windows.one.baseline == pytest.approx(0.09975)
    windows.pass_(0.05)
    assert windows.one.baseline == pytest.approx((0.09975 + 0.05) / 2)


def test_the_baseline_rises_where_the_limit_plays_no_part(windows: Windows) -> None:
    windows.pass_(0.1)
    windows.pass_(0.2)
    assert windows.one.baseline == pytest.approx(0.1)
    windows.pass_(0.2, peak=1)
    assert windows.one.baseline == pytest.approx(0.103)


def test_a_cut_that_did_not_help_is_taken_back_and_the_baseline_set_right(windows: Windows) -> None:
    """Everything has become twice as slow: no queue, so no cut makes it faster."""
    windows.pass_(0.1)
    before = windows.one.limit
    windows.pass_(0.2)
    windows.pass_(0.2)
    assert windows.one.limit < before * CUT
    assert windows.pass_(0.2) == pytest.approx(before)
    assert windows.one.baseline == pytest.approx(0.2)


def test_a_cut_that_helped_stands(windows: Windows) -> None:
    """Half of the workers are gone: latency falls with the limit."""
    windows.pass_(0.1)
    before = windows.one.limit
    limits = [windows.pass_(0.1 * windows.one.limit / 50) for _ in range(12)]
    assert max(limits) < before
    assert limits[-1] == pytest.approx(75, rel=0.1), "nobody is turned away: half as much again is good enough"


def test_where_some_are_turned_away_it_is_lowered_to_see(windows: Windows) -> None:
    """It began far too high, and knows no better latency: nothing but a lower limit can tell."""
    limits = [windows.pass_(0.1 * max(1.0, windows.one.limit / 20), shedding=True) for _ in range(6 * REST)]
    assert limits[-1] == pytest.approx(20, rel=0.25)


def test_lowered_in_vain_it_goes_back(windows: Windows) -> None:
    limits = [windows.pass_(0.1 if number % 2 else 0.106, shedding=True) for number in range(REST + 2)]
    assert limits[-2] == pytest.approx(limits[-3] * CUT)
    assert limits[-1] == limits[-3]


def test_ov2_it_is_not_lowered_to_see_where_nobody_is_turned_away(windows: Windows) -> None:
    limits = [windows.pass_(0.107) for _ in range(5 * REST)]
    assert limits == sorted(limits)


def test_lowered_to_see_it_goes_no_further_when_nobody_is_turned_away_any_more(windows: Windows) -> None:
    for _ in range(REST + 1):
        windows.pass_(0.5 * windows.one.limit / 100, shedding=True)
    lowered = windows.one.limit
    assert windows.pass_(0.5 * lowered / 100, shedding=False) >= lowered


def test_a_limit_that_is_not_reached_any_more_ends_the_comparison(windows: Windows) -> None:
    windows.pass_(0.1)
    windows.pass_(0.2)
    windows.pass_(0.2)
    limit = windows.one.limit
    windows.pass_(0.1, peak=int(limit) - 1)
    assert windows.pass_(0.2, peak=int(windows.one.limit)) < windows.one.limit + 1


def test_latency_of_nothing_is_no_error(windows: Windows) -> None:
    windows.pass_(0.0)
    assert windows.pass_(0.0) > 100
