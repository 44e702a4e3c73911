"""RL2: how far the sliding window of two counts is from an exact log, and that it never admits twice the limit."""

from __future__ import annotations

import random
from collections import deque

import pytest

from gatekit.core.counters import Limit
from gatekit.mechanisms.windows import State, Window, window_of


class Traffic:
    """One window under traffic: how much it admitted, and the most within any one period."""

    def __init__(self, name: str, amount: int, period: float) -> None:
        self.window: Window = window_of(Limit(amount, period, name))
        self.period = period
        self.state: State = ()
        self.recent = deque[float]()
        self.admitted = self.most = 0

    def ask(self, now: float) -> bool:
        self.state, taken = self.window.take(self.state, now, 1)
        if taken.allowed:
            self.admitted += 1
            self.recent.append(now)
            # Periods are half open, and a billionth of one is what rounding may cost.
            while self.recent[0] <= now - self.period + 1e-6:
                self.recent.popleft()
            self.most = max(self.most, len(self.recent))
        return taken.allowed


@pytest.mark.parametrize("per_second", [5, 8, 9.5, 10, 11, 16, 64])
def test_rl2_on_an_even_stream_it_is_within_one_percent_of_an_exact_log(per_second: float) -> None:
    counted, exact = Traffic("sliding_window", 600, 60.0), Traffic("sliding_log", 600, 60.0)
    for index in range(int(per_second * 1_200)):
        now = 6_000.0 + index / per_second
        counted.ask(now)
        exact.ask(now)
    assert abs(counted.admitted - exact.admitted) <= 0.01 * exact.admitted
    assert exact.most <= 600
    # The uniform stream alone is the premise of the two counts: a single period is as near.
    assert counted.most <= 600 * 1.01 or per_second > 16


@pytest.mark.parametrize("amount", [1, 2, 10, 100])
def test_rl2_it_never_admits_twice_the_limit_within_one_period(amount: int) -> None:
    """All at the end of one period, then as many as it lets through: the worst there is."""
    worst = Traffic("sliding_window", amount, 64.0)
    for tick in range(64 * 64, 3 * 64 * 64):
        now = 640.0 + tick / 64
        for _ in range(amount + 1 if tick == 2 * 64 * 64 - 1 or tick > 2 * 64 * 64 else 0):
            worst.ask(now)
    assert worst.most < 2 * amount
    assert amount < 100 or worst.most > 1.9 * amount


def test_rl2_nor_does_it_on_random_bursts() -> None:
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    for _ in range(300):
        amount = dice.randrange(1, 30)
        traffic, exact, now = Traffic("sliding_window", amount, 8.0), Traffic("sliding_log", amount, 8.0), 800.0
        for _ in range(60):
            now += dice.choice((0.0, 1 / 64, 0.5, 4.0, 7.984375, 8.0))
            for _ in range(dice.randrange(2 * amount)):
                traffic.ask(now)
                exact.ask(now)
        assert traffic.most < 2 * amount or amount == 1, seed
        assert traffic.most <= 2 * amount - 1, seed
        assert exact.most <= amount, seed
