"""Counting what happened lately, in slices of time: what breakers and budgets reckon with.

A tally forgets by whole slices, so that adding and reading cost the same however much is counted.
"""

from __future__ import annotations

from typing import Final

SLICES: Final = 10
"""How many slices the span is cut into: it is forgotten a tenth at a time."""


class Tally:
    """How much was added within the last `span` seconds.

    The oldest slice is forgotten as a whole. So the total covers at least the last nine tenths of the span and never
    more than the span; with `spare=True` it covers at least the whole span and up to a tenth more. Time that goes back
    counts as standing still.
    """

    __slots__ = ("_amounts", "_keep", "_length", "_newest", "_total")

    def __init__(self, span: float, *, spare: bool = False) -> None:
        self._length = span / SLICES
        self._keep = SLICES + spare
        self._amounts: list[int] = [0] * self._keep
        self._newest = 0
        self._total = 0

    def add(self, amount: int, now: float) -> int:
        """Count `amount` now. The result names the slice it went into, for `take_back`."""
        self._forget(now)
        self._amounts[self._newest % self._keep] += amount
        self._total += amount
        return self._newest

    def take_back(self, amount: int, slice_: int, now: float) -> None:
        """Undo an `add` that gave `slice_`; what has been forgotten meanwhile needs no undoing."""
        self._forget(now)
        if slice_ > self._newest - self._keep:
            self._amounts[slice_ % self._keep] -= amount
            self._total -= amount

    def total(self, now: float) -> int:
        """What was added lately."""
        self._forget(now)
        return self._total

    def clear(self) -> None:
        """Forget everything."""
        self._amounts = [0] * self._keep
        self._total = 0

    def _forget(self, now: float) -> None:
        newest = int(now // self._length)
        gone = newest - self._newest
        if gone <= 0:
            return
        if gone >= self._keep or not self._total:
            self.clear()
        else:
            for index in range(self._newest + 1, newest + 1):
                place = index % self._keep
                self._total -= self._amounts[place]
                self._amounts[place] = 0
        self._newest = newest
