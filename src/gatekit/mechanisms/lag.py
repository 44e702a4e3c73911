"""How late an event loop is: beats that are due at certain times, and how long after those they came.

A beat that has not come yet counts too, as late as it is by now. So a loop that has stood still is known to have done
so before its beat comes: by the first request that it serves afterwards.
"""

from __future__ import annotations

import math
from typing import Final

FADE: Final = 0.5
"""What is left of a lateness at each beat that follows it."""
STOPPED: Final = 10.0
"""Seconds without a beat after which a loop is not late: it has ended, or is in the process that this one was forked
from."""


class Beat:
    """The beats of one loop."""

    __slots__ = ("_most", "due", "recent")

    def __init__(self, due: float, most: float) -> None:
        self.due = due
        self._most = most
        self.recent = 0.0

    def came(self, now: float, due: float) -> None:
        """It has come; the next is due then."""
        self.recent = max(min(now - self.due, self._most), self.recent * FADE)
        self.due = due


class Lag:
    """The loops of a process. Late by `begin` seconds, the first is shed, by `full` everything, linearly between them.

    `calm_until` is a time until which nothing is late enough to be shed, whatever else does not happen: what is asked
    of every request. Without any loop that beats there is no lag.
    """

    __slots__ = ("_beats", "begin", "calm_until", "full")

    def __init__(self, begin: float, full: float) -> None:
        """Raises ValueError unless 0 <= begin < full."""
        if not 0.0 <= begin < full:
            raise ValueError("shedding begins at a lag above nothing and below that at which it is full")
        self.begin = begin
        self.full = full
        self.calm_until = math.inf
        self._beats: tuple[Beat, ...] = ()

    def enter(self, due: float) -> Beat:
        """A loop begins to beat."""
        beat = Beat(due, self.full)
        self._beats = (*self._beats, beat)
        self._reckon()
        return beat

    def leave(self, beat: Beat) -> None:
        """It beats no more."""
        self._beats = tuple(one for one in self._beats if one is not beat)
        self._reckon()

    def came(self, beat: Beat, now: float, due: float) -> None:
        """A beat has come; the next of that loop is due then."""
        beat.came(now, due)
        self._reckon()

    def late(self, now: float) -> float:
        """By how many seconds the latest loop is late."""
        found = 0.0
        for beat in self._beats:
            overdue = now - beat.due
            if overdue <= STOPPED:
                found = max(found, beat.recent, overdue)
        return found

    def share(self, now: float) -> float:
        """The share of requests to shed, from 0 to 1."""
        late = self.late(now)
        if late <= self.begin:
            return 0.0
        return min(1.0, (late - self.begin) / (self.full - self.begin))

    def _reckon(self) -> None:
        if any(beat.recent > self.begin for beat in self._beats):
            self.calm_until = -math.inf
        else:
            self.calm_until = min((beat.due for beat in self._beats), default=math.inf) + self.begin
