"""Who waits for a place: a bounded queue in order of importance, the oldest first, the newest first once it is standing.

A queue that is never empty serves nobody better by keeping to the order of arrival: everybody in it is then late by the
same. So once it has not been empty for longer than an interval the newest is served, who may still get an answer in
time, and the oldest run out (CoDel's standing queue, Nichols and Jacobson 2012, with adaptive LIFO, Maurer 2015).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, Generic, Protocol, TypeVar

PATIENCE: Final = 2.0
"""After how many intervals somebody who waits in a standing queue is let go."""


class Waiter(Protocol):
    """Who waits: `level` says how important it is, 0 the most, `since` from when on it waits."""

    @property
    def level(self) -> int: ...

    @property
    def since(self) -> float: ...


W = TypeVar("W", bound=Waiter)


class Queue(Generic[W]):
    """Waiters of `levels` sorts. Every step takes the same time, however many wait."""

    __slots__ = ("_lines", "_since", "length")

    def __init__(self, levels: int) -> None:
        self._lines: tuple[OrderedDict[W, None], ...] = tuple(OrderedDict() for _ in range(levels))
        # Since when each line that is not empty has not been.
        self._since = [0.0] * levels
        self.length = 0

    def add(self, waiter: W) -> None:
        """Let it wait. Who sees to the bound makes room first."""
        line = self._lines[waiter.level]
        if not line:
            self._since[waiter.level] = waiter.since
        line[waiter] = None
        self.length += 1

    def remove(self, waiter: W) -> bool:
        """It waits no longer. False if it did not."""
        line = self._lines[waiter.level]
        if waiter not in line:
            return False
        del line[waiter]
        self.length -= 1
        return True

    def first_level(self) -> int | None:
        """The most important level at which somebody waits."""
        for level, line in enumerate(self._lines):
            if line:
                return level
        return None

    def next(self, level: int, now: float, interval: float) -> W:
        """Whose turn it is at that level. Somebody must wait there."""
        line = self._lines[level]
        return next(reversed(line) if self.standing(level, now, interval) else iter(line))

    def standing(self, level: int, now: float, interval: float) -> bool:
        """Whether somebody has been waiting there at every moment of the last `interval` seconds, and longer."""
        return now - self._since[level] > interval

    def yield_to(self, level: int, now: float, interval: float) -> W | None:
        """Take out whoever must leave for somebody of that level: the least important, and of those the one that would
        be served last. None where nobody less important waits."""
        for lower in range(len(self._lines) - 1, level, -1):
            line = self._lines[lower]
            if line:
                waiter = next(iter(line) if self.standing(lower, now, interval) else reversed(line))
                self.remove(waiter)
                return waiter
        return None

    def late(self, now: float, interval: float) -> list[W]:
        """Take out who has waited in a standing line for longer than one waits there."""
        found: list[W] = []
        if not self.length:
            return found
        for level, line in enumerate(self._lines):
            if self.standing(level, now, interval):
                while line:
                    oldest = next(iter(line))
                    if now - oldest.since <= PATIENCE * interval:
                        break
                    found.append(oldest)
                    self.remove(oldest)
        return found

    def oldest(self) -> float | None:
        """Since when the one waits that has waited longest; None where nobody does."""
        return min((next(iter(line)).since for line in self._lines if line), default=None)

    def lengths(self) -> tuple[int, ...]:
        """How many wait at each level."""
        return tuple(len(line) for line in self._lines)

    def __iter__(self) -> Iterator[W]:
        for line in self._lines:
            yield from line
