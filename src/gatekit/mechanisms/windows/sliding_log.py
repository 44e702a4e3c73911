"""The log: every request of the last period, so that never more than the amount passes in any one, wherever it begins.

It is exact, and takes memory and time for it: the amount is at most a thousand.
"""

from __future__ import annotations

import math

from gatekit.core.counters import Limit, Taken
from gatekit.mechanisms.windows.step import EARLY, State, check_length


class SlidingLog:
    """Its state: when, how much, when, how much, …, oldest first. What was spent counts for one period from then on."""

    __slots__ = ("_amount", "_period")

    def __init__(self, limit: Limit) -> None:
        """Raises ValueError where the amount is too large."""
        check_length(limit.amount, "sliding_log")
        self._amount = limit.amount
        self._period = limit.period

    def take(self, state: State, now: float, cost: int, mark: int = 0) -> tuple[State, Taken]:
        amount, period = self._amount, self._period
        moment, kept = self._recent(state, now)
        spent = int(sum(kept[1::2]))
        over = spent + cost - amount
        if over <= 0:
            if cost:
                state = kept = self._with(kept, moment, cost)
            reset = kept[-2] + period - now if kept else 0.0
            return state, Taken(True, -over, reset, 0.0)
        wait = math.inf
        if cost <= amount:
            at = 0
            while over > kept[at + 1]:
                over -= int(kept[at + 1])
                at += 2
            wait = kept[at] + period - now
        reset = kept[-2] + period - now if kept else 0.0
        return state, Taken(False, max(0, amount - spent), reset, wait)

    def charge(self, state: State, now: float, cost: int, mark: int = 0) -> State:
        moment, kept = self._recent(state, now)
        if cost > 0:
            return self._with(kept, moment, cost)
        while cost and kept:
            # What was spent last is given back first.
            last = int(kept[-1])
            if last + cost > 0:
                return (*kept[:-1], last + cost)
            cost += last
            kept = kept[:-2]
        return kept

    def _recent(self, state: State, now: float) -> tuple[float, State]:
        """The time that counts, and what of the state is not over then."""
        moment = state[-2] if state and state[-2] > now else now
        over, past = 0, moment - self._period * (1.0 - EARLY)
        while over < len(state) and state[over] <= past:
            over += 2
        return moment, state[over:] if over else state

    def _with(self, kept: State, moment: float, cost: int) -> State:
        """The state with another entry. What was spent at the same time is one entry; so are the last two of a state that
        is full, which then count a little longer."""
        if kept and (kept[-2] == moment or len(kept) >= 2 * self._amount):
            return (*kept[:-2], moment, kept[-1] + cost)
        return (*kept, moment, cost)
