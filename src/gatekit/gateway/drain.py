"""Leaving without anyone noticing: when responses begin to close their connections, when streams are ended, and when
what is still under way is cut.

No request is refused here: whoever tells the load balancer (readiness) and closes the sockets stands outside. What is
done to an exchange is in `drivers.flights`; this says when, by a clock, a pause and a randomness that are given to it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from gatekit.core.events import DrainBegan, DrainEnded, Events
from gatekit.core.ports import Ports
from gatekit.drivers.answer import Answer
from gatekit.drivers.flights import Flights, Stream, cut, end

TICK = 0.05
"""Seconds between two looks at what is under way."""
SETTLE = 1.0
"""Seconds that what was cut has to be gone: to write its 503, to close its connections."""


@dataclass(frozen=True, slots=True)
class DrainReport:
    """How a drain went: the seconds it took, how many exchanges were cut, how many streams came to a proper end."""

    seconds: float
    cut: int
    ended: int


class Schedule:
    """When what happens. Times are readings of one monotonic clock, `chance` is a number in [0, 1).

    Until `grace` all goes on; until `spread` streams that were there are ended; at `end` what is left is cut. Raises
    ValueError on a negative duration.
    """

    __slots__ = ("began", "end", "grace", "spread")

    def __init__(self, began: float, grace: float, timeout: float) -> None:
        if not (grace >= 0.0 and timeout >= 0.0):
            raise ValueError(f"a drain takes no negative time: grace={grace}, timeout={timeout}")
        self.began = began
        self.grace = began + grace
        self.spread = self.grace + timeout / 2
        self.end = self.grace + timeout

    def shorten(self, other: Schedule) -> None:
        """Let nothing happen later than in `other`."""
        self.grace = min(self.grace, other.grace)
        self.spread = min(self.spread, other.spread)
        self.end = min(self.end, other.end)

    def share(self, now: float) -> float:
        """The share of responses that close their connections: from 0 at the beginning to 1 at the end of the grace."""
        if now >= self.grace:
            return 1.0
        return (now - self.began) / (self.grace - self.began)

    def moment(self, now: float, chance: float) -> float:
        """When a stream that is there now is to be ended. One that comes when the others have gone is given what is
        left: were it ended at once, its client would be back at once."""
        start = max(now, self.grace)
        last = self.spread if start < self.spread else self.end
        return start + max(0.0, last - start) * chance


class Drain:
    """The one drain of a gateway. It begins with the first `join` and is never taken back."""

    def __init__(
        self,
        flights: Flights,
        *,
        now: Callable[[], float],
        random: Callable[[], float],
        events: Events,
        pause: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self._flights = flights
        self._now = now
        self._random = random
        self._events = events
        self._pause = _pause if pause is None else pause
        self._lock = threading.Lock()
        self._schedule: Schedule | None = None
        self._result: Future[DrainReport] = Future()
        self._task: asyncio.Task[None] | None = None
        self._callers: set[asyncio.Task[Any] | None] = set()
        # Since when a stream has been known, and its number in [0, 1): its moment follows from them and the schedule.
        self._drawn: dict[Stream, tuple[float, float]] = {}
        self._asked: set[Stream] = set()
        self._cuts: list[Answer] = []

    @classmethod
    def of(cls, flights: Flights, ports: Ports) -> Drain:
        """A drain by the ports of a gateway."""
        return cls(flights, now=ports.clock.monotonic, random=ports.random.random, events=ports.events)

    @property
    def begun(self) -> bool:
        """Whether it has begun, or is over: readiness is then false."""
        return self._schedule is not None

    async def join(self, *, grace: float, timeout: float) -> DrainReport:
        """Begin, or join the one that has begun, which this can only make shorter. To cancel the wait does not end it.

        An exchange that waits here itself (a `/drain` behind this gateway) is not waited for.
        """
        caller = asyncio.current_task()
        self._callers.add(caller)
        try:
            wanted = Schedule(self._now(), grace, timeout)
            with self._lock:
                first = self._schedule is None
                if self._schedule is None:
                    self._schedule = wanted
                else:
                    self._schedule.shorten(wanted)
            if first:
                self._begin(wanted, grace, timeout)
            return await asyncio.shield(asyncio.wrap_future(self._result))
        finally:
            self._callers.discard(caller)

    def _begin(self, schedule: Schedule, grace: float, timeout: float) -> None:
        self._flights.begin(lambda: self._random() < schedule.share(self._now()))
        self._events.emit(DrainBegan(grace, timeout, len(self._flights.under_way)))
        self._task = asyncio.get_running_loop().create_task(
            self._run(schedule), context=Context(), name="gatekit drain"
        )

    async def _run(self, schedule: Schedule) -> None:
        try:
            report = await self._drain(schedule)
        except asyncio.CancelledError:
            self._result.cancel()
            raise
        except Exception as error:
            self._result.set_exception(error)
        else:
            self._events.emit(DrainEnded(report.seconds, report.cut, report.ended))
            self._result.set_result(report)
        finally:
            self._asked, self._drawn, self._cuts = set(), {}, []

    async def _drain(self, schedule: Schedule) -> DrainReport:
        loop = asyncio.get_running_loop()
        while (now := self._now()) < schedule.end:
            waiting = self._waiting()
            if not waiting and now >= schedule.grace:
                break
            self._end_due(loop, waiting, schedule, now)
            await self._pause(min(TICK, schedule.end - now))
        else:
            # First what can be ended is, and the rest cut; then what was ended and does not go.
            await self._finish_off(loop, self._end_or_cut)
            await self._finish_off(loop, self._cut)
        ended = sum(stream.ended for stream in self._asked)
        return DrainReport(self._now() - schedule.began, len(self._cuts), ended)

    def _waiting(self) -> list[Answer]:
        """What is under way and waited for."""
        return [out for out in self._flights.now() if out.task not in self._callers]

    def _end_due(self, loop: asyncio.AbstractEventLoop, waiting: list[Answer], schedule: Schedule, now: float) -> None:
        """End the streams whose moment has come, each once."""
        known, self._drawn = self._drawn, {}
        for out in waiting:
            stream = out.stream
            if stream is None or stream in self._asked:
                continue
            drawn = known.get(stream) or (now, self._random())
            if now >= schedule.moment(*drawn):
                self._asked.add(stream)
                _act(loop, end, out)
            else:
                self._drawn[stream] = drawn

    def _end_or_cut(self, out: Answer) -> None:
        stream = out.stream
        if stream is not None and end(out):
            self._asked.add(stream)
        else:
            self._cut(out)

    def _cut(self, out: Answer) -> None:
        if cut(out):
            self._cuts.append(out)

    async def _finish_off(self, loop: asyncio.AbstractEventLoop, act: Callable[[Answer], None]) -> None:
        """Do this to all that is still there, and give it a moment to be gone."""
        for out in self._waiting():
            if not _act(loop, act, out):
                # Its loop was closed under it, and nothing of it is left.
                self._flights.under_way.discard(out)
        last = self._now() + SETTLE
        while self._waiting() and self._now() < last:
            await self._pause(TICK)


def _act(loop: asyncio.AbstractEventLoop, act: Callable[[Answer], object], out: Answer) -> bool:
    """Do this to an exchange, in the loop that serves it. False if there is no such loop any more."""
    its = loop if out.task is None else out.task.get_loop()
    if its is loop:
        act(out)
        return True
    try:
        its.call_soon_threadsafe(act, out)
    except RuntimeError:
        return False
    return True


async def _pause(seconds: float) -> None:
    await asyncio.wait((asyncio.get_running_loop().create_future(),), timeout=seconds)
