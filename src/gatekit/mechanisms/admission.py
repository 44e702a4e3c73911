"""Fewer requests for what fails: a request is let through with a chance that falls with the rate of success.

The formula is that of Envoy's admission control filter: with `n` requests in the window of which `s` succeeded, the
chance of being turned away is `((n - s / threshold) / (n + 1)) ** (1 / aggression)`, and never above `most`.
What was turned away counts as neither: so something always gets through, and tells when it works again.
"""

from __future__ import annotations

from typing import NamedTuple

from gatekit.mechanisms.tally import Tally


class Terms(NamedTuple):
    """Success rate below which it begins, how steep it is, the highest chance, seconds that are looked back at, and how
    many requests there must have been in them."""

    threshold: float = 0.95
    aggression: float = 1.0
    most: float = 0.8
    window: float = 30.0
    least: int = 20


class SuccessRate:
    """Requests and successes within the last `window` seconds."""

    __slots__ = ("_all", "_good")

    def __init__(self, window: float) -> None:
        self._all = Tally(window)
        self._good = Tally(window)

    def add(self, good: bool, now: float) -> None:
        """One has come to its end."""
        self._all.add(1, now)
        if good:
            self._good.add(1, now)

    def chance(self, terms: Terms, now: float) -> float:
        """The chance of being turned away, in [0, most]."""
        requests = self._all.total(now)
        if requests < terms.least:
            return 0.0
        failing = (requests - self._good.total(now) / terms.threshold) / (requests + 1)
        if failing <= 0.0:
            return 0.0
        return min(terms.most, float(failing ** (1.0 / terms.aggression)))
