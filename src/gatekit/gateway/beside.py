"""Work beside an event loop: how a thread that compiles keeps out of the way of the requests."""

from __future__ import annotations

import time
from typing import Final

WORK: Final = 0.0001
"""Seconds of work between two rests: the longest that the loop waits for the interpreter."""
REST: Final = 0.0004
"""Seconds of rest: time for the loop to take a request through."""


class Breather:
    """A `Pause`: after some work it sleeps, so that the loop has the interpreter to itself for a moment.

    Without it, a loop that wakes up waits for the interpreter's switch interval, five milliseconds, and does so at every
    system call of a request. Only for a thread of its own: in a loop it would stop that.
    """

    __slots__ = ("_due",)

    def __init__(self) -> None:
        self._due = time.perf_counter() + WORK

    def __call__(self) -> None:
        if time.perf_counter() >= self._due:
            # In a thread of its own, where nothing else could wait.
            time.sleep(REST)  # noqa: TID251
            self._due = time.perf_counter() + WORK


__all__ = ["Breather"]
