"""Whether a store answers: five questions in a row that failed, and nobody asks it any more until it was heard of again.

It is tried by a job, not by requests. Where no job runs, as in a script, one question a second is let through.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Final

from gatekit.core.ports import Clock

_log = logging.getLogger("gatekit.stores")

FAILURES: Final = 5
"""So many questions in a row without an answer, and the store is down."""
ONE_EVERY: Final = 1.0
"""Seconds between questions that are let through all the same where nothing else tries."""


class Contact:
    """What is known of one store. Threads and loops may share it: what is lost in a race is a count, or one question."""

    __slots__ = (
        "_again", "_clock", "_row", "_tended", "_tended_in", "_waiting", "down", "failures", "shown", "since", "trying", "why",
    )  # fmt: skip

    def __init__(self, shown: str, clock: Clock) -> None:
        self.down = False
        self.why = ""
        """What went wrong last."""
        self.since = clock.wall()
        """Since when it is up or down, in seconds since the Unix epoch."""
        self.trying = False
        """Whether a question is let through although it is down."""
        self.failures = 0
        self.shown = shown
        self._clock = clock
        self._row = 0
        self._again = 0.0
        self._tended = 0
        self._tended_in = 0
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def may_ask(self) -> bool:
        """Whether one question may be asked although the store is down."""
        if self._tended and self._tended_in == os.getpid():
            return False
        now = self._clock.monotonic()
        if now < self._again:
            return False
        self._again = now + ONE_EVERY
        self.trying = True
        return True

    def answered(self) -> None:
        self._row = 0
        self.trying = False
        if self.down:
            self.down = False
            self.since = self._clock.wall()
            _log.warning("%s answers again", self.shown)

    def failed(self, why: str, questions: int = 1) -> None:
        """So many questions got no answer."""
        if not questions:
            return
        self.why = why
        self.trying = False
        self.failures += questions
        self._row += questions
        if self._row < FAILURES or self.down:
            return
        self.down = True
        self.since = self._clock.wall()
        self._again = self._clock.monotonic() + ONE_EVERY
        _log.warning("%s; nothing is asked of it until it answers again", why)
        waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, future)

    def tend(self) -> None:
        """From now on a job tries the store while it is down, until `leave`."""
        if self._tended_in != os.getpid():
            self._tended, self._tended_in = 0, os.getpid()
        self._tended += 1

    def leave(self) -> None:
        self._tended -= 1

    async def lost(self) -> None:
        """Wait until it is down."""
        loop = asyncio.get_running_loop()
        while not self.down:
            entry = (loop, loop.create_future())
            self._waiting.append(entry)
            try:
                if not self.down:
                    await entry[1]
            finally:
                if entry in self._waiting:
                    self._waiting.remove(entry)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
