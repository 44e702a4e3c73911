"""Leases: a process takes from a shared counter what it will need in the next moments, and counts that by itself.

What is admitted out of a lease was spent on the shared counter before, at most `life` seconds earlier. So all processes
together never admit more than the counter allows but for when: in any stretch of time as much more as they may hold at
its begin, which is `share` of the amount for each process; and nothing more in a fixed window, as no lease outlives it.
What a lease has left when its life is over is given back where the counter still remembers it, and is lost otherwise.

Only what is used often is leased. A counter that is asked for now and then is asked each time, and so are small limits,
of which a share is nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from math import inf
from typing import Final

from gatekit.core.counters import Limit, Taken

LEASABLE: Final = frozenset({"fixed_window", "sliding_window", "token_bucket"})
"""The ways to count for which it does not matter who spends what was taken."""
SHARE: Final = 0.05
"""The largest part of a limit that one process holds."""
LEAST: Final = 5
"""A lease for less than this is not worth it: the counter is asked each time."""
HORIZON: Final = 0.15
"""A lease is for what will be used within so many seconds, going by the last ones."""
LIFE: Final = 0.5
"""Seconds after which what is left of a lease is not used any more; for short periods a quarter of the period."""
RENEW_AT: Final = 0.4
"""A new lease is asked for when this part of the last one is left."""
DENIED_PER_ASK: Final = 16.0
"""When nothing is left, the counter is asked again after about as many requests as this."""
ASK_AT_LEAST: Final = 0.25
"""Seconds after which it is asked again in any case; for short periods a quarter of the period."""
LEAD: Final = 0.005
"""So many seconds before that it is asked already, where nobody has to wait for it."""
AGAIN_AFTER: Final = 0.05
"""Seconds after which a lease that could not be had is asked for again, where nobody has to wait for it."""
SAFETY: Final = 0.05
"""What is left is given back only if the counter remembers it for so many seconds more."""
IDLE: Final = 2.0
"""A lease that was not asked for so many seconds is forgotten."""

_SPAN: Final = 0.1


class Stand(IntEnum):
    """Where a lease stands with a cost."""

    FITS = 0
    EMPTY = 1
    """Neither here nor on the counter is so much left, for now."""
    LACKS = 2
    """It is worth asking for more."""
    COLD = 3
    """It is not: the counter is to be asked for this cost alone."""


class Use:
    """How much is used in a second, going by the last tenths of one."""

    __slots__ = ("_amount", "_since", "_was", "at")

    def __init__(self, now: float) -> None:
        self.at = now
        """When it was used last."""
        self._since = now
        self._amount = 0
        self._was = 0.0

    def add(self, amount: int, now: float) -> None:
        elapsed = now - self._since
        if elapsed >= _SPAN:
            rate = self._amount / elapsed
            self._was = rate if elapsed > 5 * _SPAN else 0.5 * (self._was + rate)
            self._since = now
            self._amount = 0
        self._amount += amount
        self.at = now

    @property
    def rate(self) -> float:
        """What there has been in this span is the least that it will come to."""
        return max(self._was, self._amount / _SPAN)


def is_leasable(limit: Limit, share: float = SHARE) -> bool:
    """Whether leases of that limit are worth anything."""
    return limit.algorithm in LEASABLE and limit.amount * share >= LEAST


class Lease:
    """What one process holds of one counter. Times are seconds of any clock that does not go back."""

    __slots__ = (
        "_again", "_asked", "_empty_until", "_horizon", "_known_at", "_lead", "_left", "_life", "_limit", "_most", "_parts", "_reset_at",
        "_shared", "_to_give_back", "use",
    )  # fmt: skip

    def __init__(self, limit: Limit, now: float, share: float = SHARE) -> None:
        self.use = Use(now)
        self._limit = limit
        self._most = int(limit.amount * share)
        self._life = min(LIFE, limit.period / 4)
        self._horizon = min(HORIZON, self._life)
        # (when its life is over, until when the counter remembers it, how much), the oldest first.
        self._parts: deque[tuple[float, float, int]] = deque()
        self._left = 0
        self._asked = 0
        self._shared = 0
        self._reset_at = now
        self._known_at = -self._life
        self._empty_until = now
        self._lead = 0.0
        self._again = now
        self._to_give_back = 0

    @property
    def left(self) -> int:
        return self._left

    def stand(self, cost: int, now: float) -> Stand:
        """Whether `cost` can be spent, after what is too old was taken out."""
        if self._parts and self._parts[0][0] <= now:
            self._end_parts(now, now)
        if cost <= self._left and (cost or now < self._known_at + self._life):
            return Stand.FITS
        if cost and now < self._empty_until:
            return Stand.EMPTY
        return Stand.LACKS if cost and self._target() >= max(LEAST, cost) else Stand.COLD

    def spend(self, cost: int) -> None:
        """Spend what fits."""
        self._left -= cost
        parts = self._parts
        while cost:
            ends, remembered, amount = parts[0]
            if amount > cost:
                parts[0] = (ends, remembered, amount - cost)
                return
            cost -= amount
            parts.popleft()

    def told(self, allowed: bool, now: float) -> Taken:
        """What is told whoever asked: what is left here and, as far as is known, on the counter."""
        reset = max(0.0, self._reset_at - now)
        return Taken(allowed, self._left + self._shared, reset, 0.0 if allowed else max(0.0, self._empty_until - now))

    # -- renewal

    def is_due(self, now: float) -> bool:
        """Whether more should be asked for now, so that nobody has to wait for it. It says so once for a while: whoever is
        told sees to it."""
        target = self._target()
        if (
            target < LEAST
            or self._left + self._asked > RENEW_AT * target
            or now < self._again
            or not self._may_ask(now)
        ):
            return False
        self._again = now + AGAIN_AFTER
        return True

    def asking(self, now: float) -> int:
        """How much to ask for now, 0 where there is no use. It is on its way then, until `granted` or `failed`."""
        amount = self._target() - self._left - self._asked
        if amount <= 0 or not self._may_ask(now):
            return 0
        self._asked += amount
        return amount

    def failed(self, wanted: int, now: float) -> None:
        """There was no answer to that."""
        self._asked -= wanted
        self._again = now + AGAIN_AFTER

    def granted(
        self, wanted: int, amount: int, remaining: int, reset_after: float, retry_after: float, sent: float, now: float
    ) -> None:
        """The counter gave `amount` of what was asked for at `sent`, has `remaining` after that, is whole again after
        `reset_after`, and has one more after `retry_after` seconds."""
        remembered = sent + reset_after
        ends = sent + self._life
        if self._limit.algorithm == "fixed_window":
            # Nothing of it is worth anything in the next window.
            ends = min(ends, remembered)
        elif self._limit.algorithm == "sliding_window":
            remembered -= self._limit.period
        if amount:
            self._parts.append((ends, remembered, amount))
            self._left += amount
        self._asked -= wanted
        self._again = now
        self._know(remaining, reset_after, now)
        if amount < wanted:
            self._run_dry(retry_after, now)

    def exactly(self, taken: Taken, cost: int, now: float) -> None:
        """The counter was asked for this cost alone, and said that."""
        self._know(taken.remaining, taken.reset_after, now)
        if not taken.allowed and (cost == 1 or not taken.remaining):
            self._run_dry(taken.retry_after, now)

    def give_back(self, now: float, everything: bool = False) -> int:
        """How much is to be given back to the counter: what has become too old, or all there is."""
        self._end_parts(now, inf if everything else now)
        amount, self._to_give_back = self._to_give_back, 0
        return amount

    def _target(self) -> int:
        """How much to hold."""
        return min(self._most, int(self.use.rate * self._horizon))

    def _may_ask(self, now: float) -> bool:
        return now >= self._empty_until - self._lead

    def _know(self, remaining: int, reset_after: float, now: float) -> None:
        self._shared = remaining
        self._reset_at = now + reset_after
        self._known_at = now

    def _run_dry(self, retry_after: float, now: float) -> None:
        pause = min(DENIED_PER_ASK / max(1.0, self.use.rate), ASK_AT_LEAST, self._limit.period / 4)
        self._lead = LEAD if pause > retry_after else 0.0
        self._empty_until = now + max(pause, retry_after)

    def _end_parts(self, now: float, upto: float) -> None:
        """Hold no longer what ends until then."""
        parts = self._parts
        while parts and parts[0][0] <= upto:
            _, remembered, amount = parts.popleft()
            self._left -= amount
            if now + SAFETY < remembered:
                self._to_give_back += amount


def answers(leases: Sequence[Lease], costs: Sequence[int], now: float) -> Stand | list[Taken]:
    """What to tell whoever asks for these costs, all or nothing, out of these leases: one answer for each, or why there is
    none yet. It is counted as use the first time, by the caller."""
    worst = Stand.FITS
    stands = []
    for lease, cost in zip(leases, costs, strict=True):
        stand = lease.stand(cost, now)
        stands.append(stand)
        # One that is empty settles it, whatever the others lack.
        if stand is Stand.EMPTY or (worst is not Stand.EMPTY and stand > worst):
            worst = stand
    if worst > Stand.EMPTY:
        return worst
    if worst is Stand.FITS:
        for lease, cost in zip(leases, costs, strict=True):
            lease.spend(cost)
    return [lease.told(stand is not Stand.EMPTY, now) for lease, stand in zip(leases, stands, strict=True)]
