"""Exchanges that wait, without a loop: `FakeSignals` on the virtual clock, and `decide`s that a test starts and leaves
standing.

    signals = FakeSignals(clock)
    policy = Overload(1).bind(test_ports(clock=clock, signals=signals))
    first, second = signals.start(policy, request()), signals.start(policy, request())
    assert second.waiting
    observe(policy, first.exchange, outcome)      # gives its place to the second
    signals.settle()
    assert second.reply is None and not second.waiting
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Coroutine, Generator
from types import coroutine
from typing import Any

from gatekit.core.exchange import Exchange
from gatekit.core.verdict import Reply
from gatekit.testing.clock import ManualClock


class FakeSignal:
    """`Signal` that a test sees through: when its time is over, and whether it was fired."""

    __slots__ = ("_clock", "_over", "due", "fired")

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._over = False
        self.due: float | None = None
        self.fired = False

    @property
    def over(self) -> bool:
        """Whether whoever waits can go on: it was fired, or its time has come."""
        if not self._over and self.due is not None and self._clock.monotonic() >= self.due:
            self._over = True
        return self._over

    def fire(self) -> bool:
        if self.over:
            return False
        self._over = self.fired = True
        return True

    async def wait(self, seconds: float) -> bool:
        self.due = self._clock.monotonic() + seconds
        try:
            while not self.over:
                await _suspended(self)
        finally:
            self._over = True
        return self.fired


@coroutine
def _suspended(signal: FakeSignal) -> Generator[FakeSignal, None, None]:
    yield signal


class Waiting:
    """Work that was begun and may wait for a signal: `reply` is what came of it, once it no longer waits."""

    __slots__ = ("_work", "exchange", "reply", "signal")

    def __init__(self, work: Awaitable[Any] | Reply | None, exchange: Exchange | None = None) -> None:
        self.exchange = exchange
        self.reply: Any = None
        self.signal: FakeSignal | None = None
        self._work: Coroutine[Any, Any, Any] | None = None
        if isinstance(work, Coroutine):
            self._work = work
            self.go()
        else:
            self.reply = work

    @property
    def waiting(self) -> bool:
        return self._work is not None

    def go(self) -> None:
        """On to its end, or to where it waits next."""
        assert self._work is not None, "it does not wait"
        try:
            self.signal = self._work.send(None)
        except StopIteration as end:
            self.reply = end.value
            self._work = None
        except BaseException:
            self._work = None
            raise

    def cancel(self) -> None:
        """As a server does when the client has gone. Nothing happens where it does not wait."""
        work, self._work = self._work, None
        if work is not None:
            try:
                work.throw(CancelledError())
            except CancelledError:
                return
            work.close()
            raise AssertionError("it was cancelled and went on")


class FakeSignals:
    """`Signals` on a manual clock. What waits goes on when a test says so: `settle`, or `advance`."""

    __slots__ = ("_under_way", "clock")

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.clock = ManualClock() if clock is None else clock
        self._under_way: list[Waiting] = []

    def __call__(self) -> FakeSignal:
        return FakeSignal(self.clock)

    def start(self, policy: Any, exchange: Exchange) -> Waiting:
        """Ask a bound policy, which may wait."""
        return self._kept(Waiting(policy.decide(exchange), exchange))

    def run(self, work: Awaitable[Any]) -> Waiting:
        """Begin other work that waits for signals: a policy's job."""
        return self._kept(Waiting(work))

    def settle(self) -> None:
        """Let everybody go on who can, until nobody can."""
        ready = True
        while ready:
            self._under_way = [one for one in self._under_way if one.waiting]
            ready = False
            for one in self._under_way:
                if one.waiting and (one.signal is None or one.signal.over):
                    ready = True
                    one.go()

    def advance(self, seconds: float) -> None:
        """Let time pass, from one deadline to the next: whoever waits goes on at the moment that it is due."""
        end = self.clock.monotonic() + seconds
        self.settle()
        while (due := self._next()) is not None and due <= end:
            self.clock.advance(max(0.0, due - self.clock.monotonic()))
            self.settle()
        self.clock.advance(max(0.0, end - self.clock.monotonic()))
        self.settle()

    def _next(self) -> float | None:
        dues = [one.signal.due for one in self._under_way if one.waiting and one.signal and one.signal.due is not None]
        return min(dues, default=None)

    def _kept(self, one: Waiting) -> Waiting:
        if one.waiting:
            self._under_way.append(one)
        return one
