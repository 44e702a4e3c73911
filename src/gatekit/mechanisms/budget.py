"""The retry budget: retries are a share of requests, so that an outage is not answered with a storm.

A retry is reserved when it is scheduled, not when it is sent: what waits in its backoff counts already, or a thousand
requests that fail at once would all find the budget unspent.
"""

from __future__ import annotations

from typing import Final

from gatekit.mechanisms.tally import Tally

WINDOW: Final = 10.0
"""Seconds over which retries and requests are held against each other."""


class Reservation:
    """One retry that may be sent. Release it if it is not."""

    __slots__ = ("held", "slice")

    def __init__(self, slice_: int) -> None:
        self.slice = slice_
        self.held = True


class RetryBudget:
    """Retries of the last 10 s stay at or below `ratio` of the requests of the last 10 s, plus `per_second` × 10.

    Requests are counted over a little less than 10 s and retries over a little more, so that the bound holds for the
    exact window. First attempts are requests; retries are not.
    """

    __slots__ = ("_floor", "_ratio", "_requests", "_retries")

    def __init__(self, ratio: float = 0.2, per_second: float = 3.0) -> None:
        self._ratio = ratio
        self._floor = per_second * WINDOW
        self._requests = Tally(WINDOW)
        self._retries = Tally(WINDOW, spare=True)

    def request(self, now: float) -> None:
        """Count a request (its first attempt)."""
        self._requests.add(1, now)

    def reserve(self, now: float) -> Reservation | None:
        """Leave to retry once, or None when the budget is spent."""
        allowed = self._ratio * self._requests.total(now) + self._floor
        if self._retries.total(now) + 1 > allowed:
            return None
        return Reservation(self._retries.add(1, now))

    def release(self, reservation: Reservation, now: float) -> None:
        """Give back a retry that was not sent. Doing so twice gives back one."""
        if reservation.held:
            reservation.held = False
            self._retries.take_back(1, reservation.slice, now)
