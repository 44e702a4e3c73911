"""Counting what was used: limits, what is asked about them, and the port that answers. Who has which limits is asked here too.

`Counters` is implemented in memory and by every shared store alike; `gatekit.testing.counters` has what each must do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Calendar(Protocol):
    """Windows that begin when people say they do: with a day, a week or a month of a time zone."""

    @property
    def name(self) -> str:
        """What tells it from others: `month:Europe/Zurich`."""
        ...

    def window(self, moment: float) -> tuple[float, float]:
        """Beginning and end of the window that `moment` lies in, all in seconds since the Unix epoch."""
        ...


@dataclass(frozen=True, slots=True)
class Limit:
    """How much: `amount` per `period` seconds, counted the way `algorithm` does.

    With a `calendar` the windows are those of the calendar, and `period` is about how long one is.
    """

    amount: int
    period: float
    algorithm: str = "token_bucket"
    calendar: Calendar | None = None

    @property
    def id(self) -> str:
        """What tells its counters from those of other limits on the same key."""
        calendar = "" if self.calendar is None else f":{self.calendar.name}"
        return f"{self.algorithm}:{self.amount}:{self.period:.17g}{calendar}"


class Ask(NamedTuple):
    """One question to `Counters`: may `cost` be spent out of `limit` under `key`?

    `key` names the counter: it tells whom it counts and, by `Limit.id`, against which limit. `mark` names what was taken
    where it is given back by name (concurrency): a whole number below 2**53.
    """

    key: str
    limit: Limit
    cost: int = 1
    mark: int = 0


class Taken(NamedTuple):
    """The answer: whether it fits, what is left now, and in how many seconds the whole amount is back (`reset_after`)
    or this cost would fit again (`retry_after`, 0 where it fits, infinity where it never will)."""

    allowed: bool
    remaining: int
    reset_after: float
    retry_after: float


class Counters(Protocol):
    """Counters for rate limits. Each call is one step: nobody else's comes between its asks.

    The asks of one call have different keys. All three raise StoreUnavailable when a shared store does not answer in
    time. What one opens by URL may have `jobs()` and `status()`.
    """

    async def take(self, asks: Sequence[Ask]) -> Sequence[Taken]:
        """One answer for each ask. All or nothing: when one does not fit, none is charged. A cost of 0 only looks."""
        ...

    async def charge(self, asks: Sequence[Ask]) -> None:
        """Spend what has been used already, whether it fits or not; a negative cost gives back. For concurrency a negative
        cost gives back what was taken under that `mark`."""
        ...

    async def reset(self, asks: Sequence[Ask]) -> None:
        """Forget these counters, as if nothing had been spent."""
        ...


class Plans(Protocol):
    """Which limits somebody has by name, kept outside of the configuration. It answers from memory."""

    def find(self, name: str) -> str | None:
        """What is kept under that name (a user, a tenant, a key): the name of a plan, or limits as text. None where
        nothing is."""
        ...
