"""The sliding window of two counts, of this period and the one before: `before × (1 - how much of this one has passed) + now`.

It takes what was spent before as spread evenly over its period; that is all its error.
"""

from __future__ import annotations

import math

from gatekit.core.counters import Limit, Taken
from gatekit.mechanisms.windows.step import SLACK, State, index_of


class SlidingWindow:
    """Its state: the index of a period, what was spent in it, and what in the one before.

    Less than twice the amount passes within any one period, and on an even stream very nearly the amount.
    """

    __slots__ = ("_amount", "_period")

    def __init__(self, limit: Limit) -> None:
        self._amount = limit.amount
        self._period = limit.period

    def take(self, state: State, now: float, cost: int, mark: int = 0) -> tuple[State, Taken]:
        amount, period = self._amount, self._period
        index, spent, before = self._counts(state, now)
        since = now - index * period
        # Time that went back lies before the window: nothing of it has passed.
        weighed = spent + before * (1.0 - since / period) if since > 0.0 else float(spent + before)
        allowed = weighed + cost - amount <= SLACK
        wait = 0.0
        if allowed:
            spent += cost
            weighed += cost
        elif cost > amount:
            wait = math.inf
        elif spent + cost <= amount:
            wait = (1.0 - (amount - cost - spent) / before) * period - since
        else:
            wait = (2.0 - (amount - cost) / spent) * period - since
        if spent:
            reset = 2.0 * period - since
        else:
            reset = period - since if before else 0.0
        after = (index, spent, before) if allowed and cost else state
        return after, Taken(allowed, max(0, math.floor(amount - weighed + SLACK)), reset, wait)

    def charge(self, state: State, now: float, cost: int, mark: int = 0) -> State:
        index, spent, before = self._counts(state, now)
        spent += cost
        if spent < 0:
            # What is given back belongs to the period before where it is more than was spent in this one.
            before, spent = max(0.0, before + spent), 0.0
        return (index, spent, before) if spent or before else ()

    def _counts(self, state: State, now: float) -> tuple[float, float, float]:
        """Index, count and count before, for the period of `now`."""
        index = index_of(now, self._period)
        if not state:
            return index, 0, 0
        last, spent, before = state
        if index <= last:
            return last, spent, before
        return index, 0, spent if index == last + 1 else 0
