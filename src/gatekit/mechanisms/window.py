"""How often may they? Three ways to count against a limit, all with the same two questions.

`look` says whether a cost fits now and charges nothing; `charge` charges it. That is what makes several limits
all-or-nothing: look at all, then charge all or none (`take`).

=================  ==================================================================================================
token_bucket       GCRA in its leaky form: `amount` at once, then one every `period / amount` seconds. No window edge
fixed_window       `amount` in each window of `period`; up to twice as much across an edge
sliding_window     the last window counts in proportion to how much of it lies within the last `period`
=================  ==================================================================================================

An algorithm is one class and one line in `ALGORITHMS`. Windows are aligned to multiples of the period on the clock of
whoever calls. Time that goes back counts as standing still. Callers guard a window against threads themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from gatekit.core.ports import Taken

_SLACK: Final = 1e-6
"""What rounding may cost, in requests: a caller who waits as long as he was told gets through."""


class Window(Protocol):
    """What one key has spent of one limit."""

    def look(self, cost: int, now: float) -> Taken:
        """Whether `cost` fits; `remaining` is what is left before it."""
        ...

    def charge(self, cost: int, now: float) -> Taken:
        """Spend `cost`, which must fit; `remaining` is what is left after it."""
        ...


class Algorithm(Protocol):
    """Makes the window of a key of which nothing is known yet."""

    def __call__(self, amount: int, period: float, /) -> Window: ...


def take(windows: Sequence[Window], costs: Sequence[int], now: float) -> list[Taken]:
    """Charge every window its cost if all of them fit, else none. The windows must be different ones."""
    looks = [window.look(cost, now) for window, cost in zip(windows, costs, strict=True)]
    for look in looks:
        if not look.allowed:
            return looks
    return [window.charge(cost, now) for window, cost in zip(windows, costs, strict=True)]


class TokenBucket:
    """A bucket that leaks `amount / period` a second and holds `amount` (GCRA, ITU-T I.371).

    What was spent at one instant is a whole number, so that simultaneous requests are counted exactly.
    """

    __slots__ = ("_amount", "_at", "_period", "_spent")

    def __init__(self, amount: int, period: float) -> None:
        self._amount = amount
        self._period = period
        self._spent = 0.0
        self._at = -math.inf

    def look(self, cost: int, now: float) -> Taken:
        self._leak(now)
        over = self._spent + cost - self._amount
        if over <= _SLACK:
            return self._taken(True, 0.0)
        return self._taken(False, over * self._period / self._amount if cost <= self._amount else math.inf)

    def charge(self, cost: int, now: float) -> Taken:
        self._leak(now)
        self._spent += cost
        return self._taken(True, 0.0)

    def take(self, cost: int, now: float) -> Taken:
        """`look`, and `charge` if it fits, in one step."""
        amount, period, spent = self._amount, self._period, self._spent
        passed = now - self._at
        if passed > 0.0:
            self._at = now
            spent -= passed * amount / period
            if spent < 0.0:
                spent = 0.0
            self._spent = spent
        over = spent + cost - amount
        if over > _SLACK:
            return self._taken(False, over * period / amount if cost <= amount else math.inf)
        self._spent = spent = spent + cost
        left = amount - spent + _SLACK
        return Taken(True, int(left) if left > 0.0 else 0, spent * period / amount, 0.0)

    def _leak(self, now: float) -> None:
        passed = now - self._at
        if passed > 0.0:
            self._spent = max(0.0, self._spent - passed * self._amount / self._period)
            self._at = now

    def _taken(self, allowed: bool, wait: float) -> Taken:
        left = self._amount - self._spent + _SLACK
        return Taken(allowed, int(left) if left > 0.0 else 0, self._spent * self._period / self._amount, wait)


class FixedWindow:
    """A count that begins anew at every multiple of the period."""

    __slots__ = ("_amount", "_index", "_period", "_spent")

    def __init__(self, amount: int, period: float) -> None:
        self._amount = amount
        self._period = period
        self._index = -math.inf
        self._spent = 0

    def look(self, cost: int, now: float) -> Taken:
        index = max(self._index, now // self._period)
        return self._taken(index, self._spent if index == self._index else 0, cost, now)

    def charge(self, cost: int, now: float) -> Taken:
        index = max(self._index, now // self._period)
        self._spent = cost + (self._spent if index == self._index else 0)
        self._index = index
        return self._taken(index, self._spent, 0, now)

    def _taken(self, index: float, spent: int, cost: int, now: float) -> Taken:
        end = (index + 1) * self._period - now
        allowed = spent + cost <= self._amount
        if allowed:
            wait = 0.0
        else:
            wait = end if cost <= self._amount else math.inf
        return Taken(allowed, self._amount - spent, end if spent else 0.0, wait)


class SlidingWindow:
    """Two counts, of this window and the one before: `before × (1 - how much of this one has passed) + now`.

    It takes what was spent before as spread evenly over its window; that is all its error.
    """

    __slots__ = ("_amount", "_before", "_index", "_period", "_spent")

    def __init__(self, amount: int, period: float) -> None:
        self._amount = amount
        self._period = period
        self._index = -math.inf
        self._spent = 0
        self._before = 0

    def look(self, cost: int, now: float) -> Taken:
        index, spent, before = self._counts(now)
        return self._taken(index, spent, before, cost, now)

    def charge(self, cost: int, now: float) -> Taken:
        index, spent, before = self._counts(now)
        self._index, self._spent, self._before = index, spent + cost, before
        return self._taken(index, spent + cost, before, 0, now)

    def _counts(self, now: float) -> tuple[float, int, int]:
        """Index, count and count before, for the window of `now`."""
        index = now // self._period
        if index <= self._index:
            return self._index, self._spent, self._before
        if index == self._index + 1:
            return index, 0, self._spent
        return index, 0, 0

    def _taken(self, index: float, spent: int, before: int, cost: int, now: float) -> Taken:
        amount, period = self._amount, self._period
        begun = index * period
        # Time that went back lies before the window: nothing of it has passed.
        passed = max(0.0, now - begun) / period
        weighed = spent + before * (1.0 - passed)
        allowed = weighed + cost <= amount + _SLACK
        wait = 0.0
        if cost > amount:
            wait = math.inf
        elif not allowed and spent + cost <= amount:
            wait = begun + (1.0 - (amount - cost - spent) / before) * period - now
        elif not allowed:
            wait = begun + (2.0 - (amount - cost) / spent) * period - now
        if spent:
            reset = begun + 2.0 * period - now
        else:
            reset = begun + period - now if before else 0.0
        return Taken(allowed, max(0, int(amount - weighed + _SLACK)), reset, wait)


ALGORITHMS: Final[Mapping[str, Algorithm]] = {
    "fixed_window": FixedWindow,
    "sliding_window": SlidingWindow,
    "token_bucket": TokenBucket,
}
"""Every algorithm by the name under which it can be chosen."""
