"""The fixed window: a count that begins anew with every period, or with every day, week or month of a calendar.

It is the one for quotas, whose begin people know. Up to twice the amount may pass across an edge.
"""

from __future__ import annotations

import math

from gatekit.core.counters import Limit, Taken
from gatekit.mechanisms.windows.step import State, index_of


class FixedWindow:
    """A count and the begin of the window it belongs to; that is its state. Nothing of it is left in the next window."""

    __slots__ = ("_amount", "_calendar", "_last", "_period")

    def __init__(self, limit: Limit) -> None:
        self._amount = limit.amount
        self._period = limit.period
        self._calendar = limit.calendar
        # The window of the calendar that was asked for last: it takes long to find, and lasts.
        self._last = (0.0, 0.0)

    def take(self, state: State, now: float, cost: int, mark: int = 0) -> tuple[State, Taken]:
        amount = self._amount
        begin, end, spent = self._counted(state, now)
        if spent + cost > amount:
            wait = end - now if cost <= amount else math.inf
            return state, Taken(False, max(0, amount - spent), end - now if spent else 0.0, wait)
        spent += cost
        return (begin, spent) if cost else state, Taken(True, amount - spent, end - now if spent else 0.0, 0.0)

    def charge(self, state: State, now: float, cost: int, mark: int = 0) -> State:
        begin, _, spent = self._counted(state, now)
        spent += cost
        return (begin, spent) if spent > 0 else ()

    def _counted(self, state: State, now: float) -> tuple[float, float, int]:
        """Begin and end of the window of `now`, and what was spent in it."""
        moment = state[0] if state and state[0] > now else now
        if self._calendar is None:
            period = self._period
            index = index_of(moment, period)
            begin, end = index * period, (index + 1) * period
        else:
            begin, end = self._last
            if not begin <= moment < end:
                begin, end = self._last = self._calendar.window(moment)
        return begin, end, int(state[1]) if state and state[0] >= begin else 0


def edges(limit: Limit, now: float) -> tuple[float, float, float, float]:
    """What the twin has in place of a calendar: where the window of `now` begins and ends, the begin of the one before it and
    the end of the one after it.

    The server looks for its own time among them: a difference of the clocks changes nothing as long as it is less than
    a window. Raises ValueError where the limit has no calendar.
    """
    calendar = limit.calendar
    if calendar is None:
        raise ValueError("only windows of a calendar have edges: others follow from the period")
    begin, end = calendar.window(now)
    return calendar.window(begin - 1.0)[0], begin, end, calendar.window(end)[1]
