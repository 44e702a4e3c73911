"""How many at once: what was taken is held until it is given back, or for a period where nobody does.

The period is what a process that died costs the others, and how long something may take that counts all the while.
"""

from __future__ import annotations

import math

from gatekit.core.counters import Limit, Taken
from gatekit.mechanisms.windows.step import EARLY, State, check_length


class Concurrency:
    """Its state: mark, end, mark, end, …, a pair for each one held, whichever ends first first.

    `charge` with a negative cost gives back what is held under its mark, all of it, or nothing where that is over.
    """

    __slots__ = ("_amount", "_period")

    def __init__(self, limit: Limit) -> None:
        """Raises ValueError where the amount is too large."""
        check_length(limit.amount, "concurrency")
        self._amount = limit.amount
        self._period = limit.period

    def take(self, state: State, now: float, cost: int, mark: int = 0) -> tuple[State, Taken]:
        amount = self._amount
        held = self._held(state, now)
        over = len(held) // 2 + cost - amount
        if over <= 0:
            if cost:
                state = held = self._with(held, now, cost, mark)
            return state, Taken(True, -over, held[-1] - now if held else 0.0, 0.0)
        # Told is when so many will have ended by themselves: it may be sooner.
        wait = held[2 * over - 1] - now if cost <= amount else math.inf
        return state, Taken(False, max(0, amount - len(held) // 2), held[-1] - now if held else 0.0, wait)

    def charge(self, state: State, now: float, cost: int, mark: int = 0) -> State:
        held = self._held(state, now)
        if cost < 0:
            return tuple([number for at in range(0, len(held), 2) if held[at] != mark for number in held[at : at + 2]])
        # Nothing is gained by knowing how many more there are than twice what is allowed.
        return self._with(held, now, max(0, min(cost, 2 * self._amount - len(held) // 2)), mark)

    def _with(self, held: State, now: float, cost: int, mark: int) -> State:
        end = now + self._period
        # Time that went back counts as standing still.
        if held and held[-1] > end:
            end = held[-1]
        return held + (mark, end) * cost

    def _held(self, state: State, now: float) -> State:
        """What of the state is not over."""
        over, past = 0, now + self._period * EARLY
        while over < len(state) and state[over + 1] <= past:
            over += 2
        return state[over:] if over else state
