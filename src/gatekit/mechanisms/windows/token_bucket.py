"""The token bucket, in its leaky form (GCRA, ITU-T I.371): `amount` at once, then one every `period / amount` seconds.

There is no edge of a window at which twice as much would pass.
"""

from __future__ import annotations

import math
from typing import Final

from gatekit.core.counters import Limit, Taken
from gatekit.mechanisms.windows.step import SLACK, State

_new: Final = tuple.__new__
"""Makes a Taken in half the time that calling it takes."""


class TokenBucket:
    """A bucket that leaks `amount / period` a second and holds `amount`. Its state: what is in it, and since when.

    What was spent at one instant is a whole number, so that simultaneous requests are counted exactly.
    """

    __slots__ = ("_amount", "_period")

    def __init__(self, limit: Limit) -> None:
        self._amount = limit.amount
        self._period = limit.period

    def take(self, state: State, now: float, cost: int, mark: int = 0) -> tuple[State, Taken]:
        amount, period = self._amount, self._period
        if state:
            spent, at = state
            if now > at:
                spent -= (now - at) * amount / period
                if spent < 0.0:
                    spent = 0.0
            else:
                now = at
        else:
            spent = 0.0
        over = spent + cost - amount
        if over > SLACK:
            left = amount - spent + SLACK
            wait = over * period / amount if cost <= amount else math.inf
            return state, _new(Taken, (False, int(left) if left > 0.0 else 0, spent * period / amount, wait))
        spent += cost
        left = amount - spent + SLACK
        taken = _new(Taken, (True, int(left) if left > 0.0 else 0, spent * period / amount, 0.0))
        return (spent, now) if cost else state, taken

    def charge(self, state: State, now: float, cost: int, mark: int = 0) -> State:
        spent, at = state or (0.0, now)
        if now > at:
            spent = max(0.0, spent - (now - at) * self._amount / self._period)
            at = now
        spent += cost
        return (spent, at) if spent > 0.0 else ()
