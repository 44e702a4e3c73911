"""What each algorithm is by definition: how much counts as spent at a moment, from a log of all that ever happened.

Slow and in whole numbers: times are in ticks, and what is spent is in parts of a request, so many to each (`scale`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

TICKS: int = 64
"""To the second: binary fractions, which floats hold exactly."""


class Spent(NamedTuple):
    """One thing that was spent, or given back where `cost` is negative."""

    when: int
    cost: int
    mark: int = 0


Log = list[Spent]


@dataclass(frozen=True)
class Terms:
    """A limit; `period` is in ticks."""

    amount: int
    period: int


def bucket(log: Log, terms: Terms, now: int) -> int:
    """A bucket that leaks `amount` parts in each tick."""
    level, at = 0, 0
    for when, cost, _ in [*log, Spent(now, 0)]:
        level = max(0, max(0, level - (when - at) * terms.amount) + cost * terms.period)
        at = when
    return level


def fixed(log: Log, terms: Terms, now: int) -> int:
    spent = 0
    for when, cost, _ in log:
        if when // terms.period == now // terms.period:
            spent = max(0, spent + cost)
    return spent * terms.period


def sliding(log: Log, terms: Terms, now: int) -> int:
    counts: dict[int, int] = {}
    for when, cost, _ in log:
        index = when // terms.period
        counts[index] = counts.get(index, 0) + cost
        if counts[index] < 0:
            # More was given back than is there: the rest belongs to the period before.
            counts[index - 1] = max(0, counts.get(index - 1, 0) + counts[index])
            counts[index] = 0
    index, passed = divmod(now, terms.period)
    return counts.get(index, 0) * terms.period + counts.get(index - 1, 0) * (terms.period - passed)


def exact(log: Log, terms: Terms, now: int) -> int:
    """All that happened within one period before `now`, newest given back first."""
    kept: list[list[int]] = []
    for when, cost, _ in log:
        if cost > 0:
            kept.append([when, cost])
        for entry in reversed([entry for entry in kept if entry[0] > when - terms.period] if cost < 0 else []):
            back = min(entry[1], -cost)
            entry[1] -= back
            cost += back
    return sum(cost for when, cost in kept if when > now - terms.period) * terms.period


def held(log: Log, terms: Terms, now: int) -> int:
    """All that was taken within one period before `now` and not given back by its mark."""
    kept: list[Spent] = []
    for one in log:
        if one.cost < 0:
            kept = [entry for entry in kept if entry.mark != one.mark]
        else:
            kept.append(one)
    return sum(one.cost for one in kept if one.when > now - terms.period) * terms.period


REFERENCES: dict[str, Callable[[Log, Terms, int], int]] = {
    "concurrency": held,
    "fixed_window": fixed,
    "sliding_log": exact,
    "sliding_window": sliding,
    "token_bucket": bucket,
}
"""Algorithm → what is spent, in parts of a request: `period` of them, in ticks, are one."""
