"""What has come lately, by importance, and whom it hits when a share of it must be shed: the least important first.

What came is forgotten little by little, so that reckoning costs the same whatever comes.
"""

from __future__ import annotations

from math import exp
from typing import Final

FORGET: Final = 2.0
"""After how many seconds what came counts 1/e."""
SEEN: Final = 0.01
"""What one request still counts after some nine seconds: until then more of its level is to be expected."""
_SLACK: Final = 1e-9


class Mix:
    """How much came of each level lately, 0 the most important, and how much of it all was shed.

    Whoever counts adds to `came` and `shed` directly, and calls `turn` now and then. Threads that count at once may lose
    a count, which changes little.
    """

    __slots__ = ("_at", "_shed", "_weights", "came", "shed")

    def __init__(self, levels: int, now: float) -> None:
        self.came = [0] * levels
        self.shed = 0
        self._weights = [0.0] * levels
        self._shed = 0.0
        self._at = now

    def turn(self, now: float) -> None:
        """Take in what was counted since the last turn. Time that goes back counts as standing still."""
        kept = exp(-max(0.0, now - self._at) / FORGET)
        self._at = max(now, self._at)
        for level, weight in enumerate(self._weights):
            self._weights[level] = weight * kept + self.came[level]
            self.came[level] = 0
        self._shed = self._shed * kept + self.shed
        self.shed = 0

    def above(self) -> tuple[bool, ...]:
        """For each level, whether something more important is to be expected."""
        found, seen = [], False
        for weight in self._weights:
            found.append(seen)
            seen = seen or weight >= SEEN
        return tuple(found)

    def chances(self, share: float) -> tuple[float, ...]:
        """With what probability to shed what comes at each level, so that `share` of all is shed and of no level any as
        long as something of a lower one is let in."""
        total = sum(self._weights)
        if share >= 1.0 or share <= 0.0 or not total:
            return (min(1.0, max(0.0, share)),) * len(self._weights)
        wanted, found = share * total, []
        for weight in reversed(self._weights):
            if wanted <= _SLACK * total:
                found.append(0.0)
            else:
                found.append(min(1.0, wanted / weight) if weight else 1.0)
                wanted -= weight
        return tuple(reversed(found))

    def shed_share(self) -> float:
        """How much of what came lately was shed, in [0, 1]. What came long ago is forgotten, also where nothing has come
        since: less than one request's weight is no share of anything."""
        return min(1.0, self._shed / max(1.0, sum(self._weights)))
