"""Deadlines without a timer for each request: one coarse timer for each loop looks at everything that waits.

The timer runs only while something waits or a connection is idle. A deadline is met with the granularity of the
interval, 50 ms unless told otherwise. Nothing here does I/O.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

INTERVAL = 0.05
_NEVER = float("inf")


class Expirable(Protocol):
    """Something that waits: `expire` is called in the loop once the clock has passed `deadline`."""

    deadline: float

    def expire(self) -> None: ...


class Sweeper:
    """The deadlines of one loop. Not for use from another thread.

    `now` is a monotonic clock in seconds. `idle(now)` closes what has been idle for too long and says when it must be
    called again (infinity: never). `entries` is what is looked at.
    """

    __slots__ = ("_busy", "_idle", "_interval", "_loop", "_timer", "entries", "now")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], float],
        idle: Callable[[float], float] = lambda now: _NEVER,
        interval: float = INTERVAL,
    ) -> None:
        self._loop = loop
        self.now = now
        self._idle = idle
        self._interval = interval
        self.entries: set[Expirable] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False

    def watch(self, entry: Expirable) -> None:
        """Look at this entry until it is forgotten."""
        self.entries.add(entry)
        if not self._busy:
            self._busy = True
            self._schedule(self._interval)

    def forget(self, entry: Expirable) -> None:
        self.entries.discard(entry)

    def sweep(self) -> None:
        """Expire what is due now. The timer calls it; a test with its own clock may."""
        now = self.now()
        for entry in [entry for entry in self.entries if entry.deadline <= now]:
            if entry in self.entries:
                entry.expire()
        due = self._idle(now)
        if self.entries:
            self._schedule(self._interval)
            return
        self._busy = False
        if due < _NEVER:
            self._schedule(max(due - now, self._interval))
        else:
            self.stop()

    def stop(self) -> None:
        """Run no timer until something is watched again."""
        self._busy = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def running(self) -> bool:
        """Whether a timer is pending."""
        return self._timer is not None

    @property
    def watched(self) -> int:
        """How many entries wait."""
        return len(self.entries)

    def _schedule(self, delay: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay, self.sweep)


class Alarm:
    """A block that is broken off with TimeoutError when its deadline passes, or when somebody fires it.

    Works as `asyncio.timeout` does, by cancelling the task and taking that back, but on the swept clock. For waits on
    something that has no future of ours: dialling, a client's body, a foreign transport.
    """

    __slots__ = ("_cancelling", "_sweeper", "_task", "deadline", "fired")

    def __init__(self, sweeper: Sweeper, seconds: float) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an alarm needs a task to break off")
        self._task = task
        self._sweeper = sweeper
        self._cancelling = task.cancelling()
        self.deadline = sweeper.now() + seconds
        self.fired = False

    def __enter__(self) -> Alarm:
        self._sweeper.watch(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sweeper.forget(self)
        if self.fired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def fire(self) -> None:
        """Break the block off now."""
        if not self.fired:
            self.fired = True
            self._task.cancel()

    expire = fire
