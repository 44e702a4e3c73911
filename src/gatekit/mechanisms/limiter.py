"""How many may be at work at the same time, who of those that come gets a place, and who waits for one.

A place is an entry under its holder, so that it cannot be given back twice nor counted twice: how many are held is
how many entries there are. The more important a holder is, the more of the limit it may fill.

`enter` and `leave` need no lock: each is a few steps of a dict, which threads cannot break into, taken in an order in
which two of them at the same time may see one place too few, never one too many. Whoever is not let in calls `join`, and
whoever leaves while somebody waits calls `serve`: these are called under the owner's lock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from enum import Enum
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from gatekit.mechanisms.queue import Queue

LEVELS: Final = 4
"""How many levels of importance there are; 0 is the most important."""

H = TypeVar("H", bound=Hashable)


class Bounds(NamedTuple):
    """What may be held and may wait. `shares` is how much of the limit each level may fill, in [0, 1], never rising.

    `queue` is how many may wait, for `max_wait` seconds each; after `interval` seconds without being empty it stands.
    """

    shares: tuple[float, ...] = (1.0, 0.9, 0.75, 0.5)
    queue: int = 0
    max_wait: float = 1.0
    interval: float = 0.25


class Signal(Protocol):
    """What a waiter is woken by. `fire` says False where nobody waits any more."""

    def fire(self) -> bool: ...


S = TypeVar("S", bound=Signal)


class State(Enum):
    """What has become of a waiter."""

    WAITS = "waits"
    HOLDS = "holds"
    YIELDED = "yielded"
    """It left for somebody more important."""
    LATE = "late"
    """It waited too long."""
    GONE = "gone"
    """Nobody waits any more: the wait was given up."""


class Waiter(Generic[H, S]):
    """One holder-to-be in the queue."""

    __slots__ = ("holder", "level", "signal", "since", "state")

    def __init__(self, holder: H, level: int, since: float, signal: S) -> None:
        self.holder = holder
        self.level = level
        self.since = since
        self.signal = signal
        self.state = State.WAITS


class Limiter(Generic[H, S]):
    """The places of one scope. `held` tells since when each holder has its own; `caps` how many each level may fill."""

    __slots__ = ("bounds", "caps", "held", "limit", "queue", "reserved")

    def __init__(self, bounds: Bounds, limit: float = math.inf) -> None:
        self.bounds = bounds
        self.limit = limit
        self.reserved: tuple[bool, ...] = (False,) * LEVELS
        self.caps: tuple[float, ...] = (limit,) * LEVELS
        self.held: dict[H, float] = {}
        self.queue: Queue[Waiter[H, S]] = Queue(LEVELS)

    def settle(self, bounds: Bounds, limit: float, reserved: tuple[bool, ...]) -> None:
        """Go by these from now on; `reserved` says for which levels something more important is to be expected: they do
        not fill more than their share. Call `serve` after it. Nobody loses a place that he has."""
        self.bounds, self.limit, self.reserved = bounds, limit, reserved
        self.caps = tuple(
            max(1.0, math.floor(limit * share)) if kept and limit < math.inf else limit
            for share, kept in zip(bounds.shares, reserved, strict=True)
        )

    def enter(self, holder: H, level: int, now: float) -> bool:
        """Take a place, if there is one for that level. Who gets none calls `join`, also where nobody may wait."""
        held = self.held
        held[holder] = now
        if len(held) <= self.caps[level]:
            return True
        held.pop(holder, None)
        return False

    def force(self, holder: H, now: float) -> None:
        """Take a place, whether there is one or not."""
        self.held[holder] = now

    def leave(self, holder: H) -> float | None:
        """Give the place back, and tell since when it was held; None where there was none. Call `serve` after it if
        `waiting`."""
        return self.held.pop(holder, None)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self.queue.length

    # -- under the owner's lock

    def join(self, holder: H, level: int, now: float, signal: Callable[[], S]) -> Waiter[H, S] | None:
        """Wait for a place, or have one after all (`HOLDS`). None where neither is possible."""
        self.serve(now)
        queue, bounds = self.queue, self.bounds
        if self.enter(holder, level, now):
            # Nobody at this level or above waits: `serve` would have let them in.
            waiter = Waiter(holder, level, now, signal())
            waiter.state = State.HOLDS
            return waiter
        if queue.length >= bounds.queue and not (bounds.queue and self._make_room(level, now)):
            return None
        waiter = Waiter(holder, level, now, signal())
        queue.add(waiter)
        # Somebody may have left without seeing that there is one who waits.
        self.serve(now)
        return waiter

    def serve(self, now: float) -> None:
        """Hand the free places to those who wait, and let go who has waited too long."""
        queue, interval = self.queue, self.bounds.interval
        for waiter in queue.late(now, interval):
            self._let_go(waiter, State.LATE)
        while (level := queue.first_level()) is not None:
            waiter = queue.next(level, now, interval)
            if not self.enter(waiter.holder, level, now):
                return
            queue.remove(waiter)
            waiter.state = State.HOLDS
            if not waiter.signal.fire():
                self.held.pop(waiter.holder, None)
                waiter.state = State.GONE

    def give_up(self, waiter: Waiter[H, S], now: float) -> bool:
        """Its wait is over without a place: the time has passed, or whoever waited was cancelled. A place that it was
        given meanwhile goes to the next. True if it was still in the queue."""
        waited = self.queue.remove(waiter)
        if waited or waiter.state is State.HOLDS:
            waiter.state = State.GONE
            if self.held.pop(waiter.holder, None) is not None:
                self.serve(now)
        return waited

    def _make_room(self, level: int, now: float) -> bool:
        yielded = self.queue.yield_to(level, now, self.bounds.interval)
        if yielded is None:
            return False
        self._let_go(yielded, State.YIELDED)
        return True

    def _let_go(self, waiter: Waiter[H, S], state: State) -> None:
        waiter.state = state
        waiter.signal.fire()
