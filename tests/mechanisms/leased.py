"""A shared counter as the script on a server keeps it, on the virtual clock."""

from __future__ import annotations

from typing import NamedTuple

from gatekit.core.counters import Limit, Taken
from gatekit.mechanisms.windows import State, window_of


class Granted(NamedTuple):
    amount: int
    remaining: int
    reset_after: float
    retry_after: float


class Shared:
    """The counter, as the script on the server keeps it."""

    def __init__(self, limit: Limit) -> None:
        self.window = window_of(limit)
        self.state: State = ()
        self.given = 0

    def take(self, cost: int, now: float) -> Taken:
        self.state, taken = self.window.take(self.state, now, cost)
        self.given += cost * taken.allowed
        return taken

    def lease(self, wanted: int, now: float) -> Granted:
        taken = self.window.take(self.state, now, wanted)[1]
        amount = wanted if taken.allowed else taken.remaining
        if amount:
            self.take(amount, now)
        look = self.window.take(self.state, now, 1)[1]
        return Granted(amount, look.remaining + look.allowed, look.reset_after, look.retry_after)

    def give_back(self, amount: int, now: float) -> None:
        self.state = self.window.charge(self.state, now, -amount)
        self.given -= amount
