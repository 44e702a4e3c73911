"""How many may be at work at the same time, found out from live traffic: a limit that follows latency.

While there is a place for everybody, latency is what the work takes; when there is none, it is also what it waits. So
the limit is moved to where latency is a little above what it was at its best (the baseline), as Vegas and Envoy's
gradient do it. The limit is never cut to measure the baseline while there is room: only where some are turned away
anyway is it lowered a little now and then, and what comes of that tells more than any baseline. If latency falls in
proportion, there was a queue behind, and the cut was right. If it does not, all that latency is work: the cut is taken
back, and the baseline is set to it. Cuts that the baseline asked for are judged in the same way, so that a baseline which is
wrong, since everything has become slower, does not strangle what it is to protect.
"""

from __future__ import annotations

from math import log
from typing import Final, NamedTuple

SPAN: Final = 1.0
"""Seconds that a window takes at least: shorter ones would follow noise."""
ENOUGH: Final = 300
"""Latencies that a window has; one that lasts for `LONGEST` seconds does with `FEW`."""
LONGEST: Final = 5.0
FEW: Final = 20
TOLERANCE: Final = 1.06
"""How far above the baseline latency may be for the limit to grow, and where some are turned away to stay as it is: that
little queue keeps all the work busy."""
CALM: Final = 1.5
"""How far it may be above where nobody is turned away: chance alone brings it some way up."""
GROWTH: Final = 1.06
"""By how much the limit grows with one window."""
CUT: Final = 0.75
"""How much of the limit one window leaves at least, and how much is left when it is lowered to see."""
BACKOFF: Final = 0.9
"""What timeouts and dropped answers leave of it."""
DROPS: Final = 0.01
"""The share of them from which on they count."""
FALL: Final = 0.05
"""How fast the baseline follows latency down, of the distance in one window: slowly, for most of it is noise, and of
noise only one half would be followed."""
PLUNGE: Final = 0.5
"""How fast where latency has fallen below `FALLEN` of it: that is no noise."""
FALLEN: Final = 0.8
RISE: Final = 0.03
"""How fast up, where the limit is far from being reached."""
HELPED: Final = 0.65
"""From this elasticity of latency on, a cut has helped: 1 is all queue, 0 none."""
REST: Final = 6
"""Windows at the limit, with some turned away, after which it is lowered to see."""


class Terms(NamedTuple):
    """Where the limit begins, and between what it stays."""

    floor: int = 4
    ceiling: int = 1000
    initial: int = 50


class _Cut:
    """The limit on its way down: what it was `before`, and one window (`limit`, `latency`) that what follows is compared
    with. Of a cut that the baseline asked for that is the first whole window after it: the one before it may lie
    half in other times."""

    __slots__ = ("before", "latency", "limit", "to_see")

    def __init__(self, before: float, latency: float | None, *, to_see: bool) -> None:
        self.before = before
        self.limit = before
        self.latency = latency
        self.to_see = to_see


class Adaptive:
    """The limit of one scope. `latencies` takes seconds from admission to the head of the answer, of what was answered;
    `drops` counts what timed out or was dropped. Both are added to directly, also by several threads.
    """

    __slots__ = ("_base", "_began", "_cut", "_rested", "drops", "latencies", "limit")

    def __init__(self, terms: Terms, now: float) -> None:
        self.limit = float(terms.initial)
        self.latencies: list[float] = []
        self.drops = 0
        self._base: float | None = None
        self._began = now
        self._cut: _Cut | None = None
        self._rested = 0

    @property
    def baseline(self) -> float | None:
        """Latency without a queue, in seconds, as far as it is known."""
        return self._base

    def turn(self, terms: Terms, peak: int, shedding: bool, now: float) -> bool:
        """Move the limit, if there is enough to go by. `peak` is the most that was under way since the last move,
        `shedding` whether some are turned away for want of a place. True says that it was looked at, and all begins
        anew. The limit is kept between floor and ceiling in any case."""
        self.limit = min(terms.ceiling, max(terms.floor, self.limit))
        count, passed = len(self.latencies), now - self._began
        if passed < SPAN or count + self.drops < (ENOUGH if passed < LONGEST else FEW):
            return False
        latencies, self.latencies = self.latencies, []
        drops, self.drops = self.drops, 0
        self._began = now
        used = 2 * peak >= self.limit
        if drops > DROPS * (count + drops):
            self._cut = None
            if used:
                self.limit *= BACKOFF
        else:
            latency = max(sum(latencies) / count, 1e-9)
            base = self._settled(latency, used)
            if peak >= int(self.limit):
                self._move_full(latency, base, shedding)
            else:
                self._cut = None
                if used:
                    self.limit = max(peak, self.limit * _factor(latency, base, CALM))
        self.limit = min(terms.ceiling, max(terms.floor, self.limit))
        return True

    def _settled(self, latency: float, used: bool) -> float:
        """The baseline after a window: it follows down soon, and up slowly where the limit plays no part."""
        base = self._base
        if base is None:
            base = latency
        elif latency < base:
            base += (FALL if latency > FALLEN * base else PLUNGE) * (latency - base)
        elif not used:
            base += RISE * (latency - base)
        self._base = base
        return base

    def _move_full(self, latency: float, base: float, shedding: bool) -> None:
        """The move of a limit that was reached."""
        cut = self._cut
        if cut is not None:
            if cut.latency is None:
                cut.limit, cut.latency = self.limit, latency
            elif self.limit <= cut.limit * (CUT + 1e-9):
                self._cut = None
                if log(latency / cut.latency) / log(self.limit / cut.limit) < HELPED:
                    self._base = latency
                    self.limit = cut.before
                    self._rested = 0
                    return
                self._base = base = min(base, latency)
                if cut.to_see and shedding:
                    self._lower(latency)
                    return
        self._rested = self._rested + 1 if shedding else 0
        if self._cut is None and self._rested > REST:
            self._lower(latency)
            return
        factor = _factor(latency, base, TOLERANCE if shedding else CALM)
        if factor >= 1.0:
            self._cut = None
        elif self._cut is None:
            self._cut = _Cut(self.limit, None, to_see=False)
        self.limit *= factor

    def _lower(self, latency: float) -> None:
        """Lower the limit to see what comes of it."""
        self._cut = _Cut(self.limit, latency, to_see=True)
        self._rested = 0
        self.limit *= CUT


def _factor(latency: float, base: float, most: float) -> float:
    """What to multiply the limit by, where latency may be up to `most` times the baseline."""
    above = latency / base
    return GROWTH if above <= TOLERANCE else min(1.0, max(CUT, most / above))
