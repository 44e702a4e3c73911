"""Waiting for one another: `Signals` for event loops and for the threads of a WSGI server alike.

In a loop it is a future and a timer. In a thread without a loop the thread stands still, and nothing suspends.
"""

from __future__ import annotations

import asyncio
import threading

from gatekit.core.ports import Signal


class LoopSignal:
    """`Signal` for whoever waits in an event loop."""

    __slots__ = ("_future", "_lock", "_loop", "_over", "fired")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._future: asyncio.Future[None] | None = None
        self._over = False
        self.fired = False

    def fire(self) -> bool:
        with self._lock:
            if self._over:
                return False
            if self._loop is _loop():
                self._wake()
            else:
                try:
                    self._loop.call_soon_threadsafe(self._wake)
                except RuntimeError:
                    # The loop was closed, and with it went whoever waited.
                    self._over = True
                    return False
            self._over = self.fired = True
            return True

    async def wait(self, seconds: float) -> bool:
        if self._over:
            return self.fired
        future = self._future = self._loop.create_future()
        timer = self._loop.call_later(seconds, self._late)
        try:
            await future
        finally:
            timer.cancel()
            self._end()
        return self.fired

    def _late(self) -> None:
        if self._end():
            self._wake()

    def _end(self) -> bool:
        """From now on it cannot be fired. False if it was over already."""
        with self._lock:
            over, self._over = self._over, True
        return not over

    def _wake(self) -> None:
        future = self._future
        if future is not None and not future.done():
            future.set_result(None)


class ThreadSignal:
    """`Signal` for whoever waits in a thread of its own."""

    __slots__ = ("_event", "_lock", "_over", "fired")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._over = False
        self.fired = False

    def fire(self) -> bool:
        with self._lock:
            if self._over:
                return False
            self._over = self.fired = True
        self._event.set()
        return True

    async def wait(self, seconds: float) -> bool:
        try:
            self._event.wait(seconds)
        finally:
            with self._lock:
                self._over = True
        return self.fired


def signal() -> Signal:
    """A signal for the loop that runs here, or for this thread where none does."""
    loop = _loop()
    return ThreadSignal() if loop is None else LoopSignal(loop)


def _loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
