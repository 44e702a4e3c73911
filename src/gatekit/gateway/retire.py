"""Generations that are no longer in force, let go without a stall.

A generation of thousands of routes that is freed in one go stops its loop for ten milliseconds and more. Here its parts
are held until the last request that runs on it has ended, and are then freed a little at a time. Nobody is asked who
still holds a generation: requests hold the snapshot, this holds only its parts and a weak reference.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final

from gatekit.config.snapshot import Snapshot
from gatekit.routing.pause import Pause, let_go, no_pause

STEP: Final = 0.0002
"""Seconds that a loop frees parts for in one go, for each generation that waits."""
WAIT: Final = 0.001
"""Seconds between two steps. Loops round what is less up to it."""
MOST: Final = 8
"""How many generations may wait; of more, the oldest are freed at once, whatever that costs."""


class Retired:
    """The parts of generations that were in force. `add` each when another takes its place.

    The end of a generation's last request starts its release: on the loop of that request, by timers; where no loop
    runs (a thread that reloads, a WSGI server), at once, with `pause` between the parts. What waits is bounded. Any
    thread may do anything here.
    """

    __slots__ = ("__weakref__", "_lock", "_loop", "_now", "_pause", "_retired", "_waiting")

    def __init__(self, pause: Pause = no_pause, now: Callable[[], float] = time.perf_counter) -> None:
        self._pause = pause
        self._now = now
        # A generation ends wherever its last reference goes, which may be within this lock.
        self._lock = threading.RLock()
        self._retired: dict[weakref.ref[Snapshot], list[object]] = {}
        self._waiting: deque[list[object]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        """How many generations are not freed yet, those with requests under way among them."""
        return len(self._retired) + len(self._waiting)

    def add(self, snapshot: Snapshot) -> None:
        """Hold the parts of a generation that is no longer in force until nobody holds itself. Twice is once."""
        with self._lock:
            self._retired[weakref.ref(snapshot, self._ended)] = snapshot.parts

    def _ended(self, ended: weakref.ref[Snapshot]) -> None:
        """Nobody holds that generation any more."""
        due: list[list[object]] = []
        with self._lock:
            self._waiting.append(self._retired.pop(ended))
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                due.append(self._waiting.pop())
            else:
                if len(self._waiting) > MOST:
                    due.append(self._waiting.popleft())
                if self._loop is not loop:
                    self._loop = loop
                    loop.call_later(WAIT, self._step, loop)
        for parts in due:
            let_go(parts, self._pause)

    def _step(self, loop: asyncio.AbstractEventLoop) -> None:
        """Free parts for a moment, and see to the next."""
        until = self._now() + STEP * len(self._waiting)
        while self._waiting and self._now() < until:
            try:
                parts = self._waiting.popleft()
            except IndexError:
                # Another thread was quicker.
                break
            del parts[-8:]
            if parts:
                self._waiting.appendleft(parts)
        with self._lock:
            if self._loop is not loop:
                # Another loop has taken over.
                return
            if self._waiting:
                loop.call_later(WAIT, self._step, loop)
            else:
                self._loop = None


__all__ = ["Retired"]
