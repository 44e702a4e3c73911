"""The way of questions to the server: those that come while others are under way share the next round trip.

A thousand at once are a few round trips over a few connections, not a thousand. Each is still a step of its own on the
server, and none waits longer than it may: for a store that is silent, from when it was last heard of. A burst that has to
stand in line behind itself, while the store answers, is no outage. Counting it elsewhere would let through twice the limit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from gatekit.errors import StoreUnavailable
from gatekit.stores.counters_contact import Contact
from gatekit.stores.counters_script import Answers, Call

BATCH: Final = 128
"""Asks that share a round trip, at most: a server is busy with them for about a millisecond."""
TELLING: Final = 0.001
"""Seconds that are kept of the time of a question: for a timer to ring, and for who asked to hear of it."""
GRACE: Final = 0.005
"""Seconds that a question is given once when its time is found to be over late: then this loop was held up, and not the
server."""


IN_LINE: Final = 4.0
"""So many times as long as for the store a question may wait in all, while the store answers others of this process."""


class _Waiting(NamedTuple):
    call: Call
    answer: asyncio.Future[Sequence[Any]]
    due: float


class _Place(NamedTuple):
    contact: Contact
    waiting: deque[_Waiting]


class Line:
    """The questions of one event loop. `ask` sends several calls and has what came of each; `most` may be under way at once.

    No call waits longer than `timeout` seconds for an answer of any sort, nor longer than `IN_LINE` times that for its own.
    """

    __slots__ = ("_ask", "_flights", "_heard", "_most", "_places", "_timeout", "loop")

    def __init__(self, ask: Callable[[Sequence[Call]], Awaitable[Answers]], timeout: float, most: int) -> None:
        self._ask = ask
        self._timeout = timeout
        self._most = most
        self._places: dict[str, _Place] = {}
        self._flights: set[asyncio.Task[None]] = set()
        self._heard = float("-inf")
        self.loop = asyncio.get_running_loop()

    def asked(self, call: Call, contact: Contact, place: str = "") -> asyncio.Future[Sequence[Any]]:
        """What will come of this call: its answers, or StoreUnavailable. Calls of one `place` may go together."""
        loop = self.loop
        answer = loop.create_future()
        there = self._places.get(place)
        if there is None:
            there = self._places[place] = _Place(contact, deque())
            if len(self._flights) < self._most:
                # With whatever else comes in this turn of the loop.
                loop.call_soon(self._depart)
        there.waiting.append(_Waiting(call, answer, loop.time() + self._timeout - TELLING))
        return answer

    def _depart(self) -> None:
        """Send what waits, as long as there is room."""
        while self._places and len(self._flights) < self._most:
            name = next(iter(self._places))
            there = self._places.pop(name)
            if there.contact.down and not there.contact.trying:
                _fail(there.waiting, there.contact.why)
                continue
            batch = _batch(there.waiting)
            if there.waiting:
                # Behind the other places.
                self._places[name] = there
            flight = self.loop.create_task(self._flight(batch, there.contact))
            self._flights.add(flight)
            flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        if self._places:
            self._depart()

    async def _flight(self, batch: Sequence[_Waiting], contact: Contact) -> None:
        """Ask for all of these at once, and tell each what came of it, or that its time is over."""
        clock = _Deadlines(self, batch, contact)
        try:
            answers = await self._ask([one.call for one in batch])
        except asyncio.CancelledError:
            if not clock.over:
                _fail(batch, "the event loop ended before there was an answer")
                raise
        except StoreUnavailable as error:
            contact.failed(str(error), _fail(batch, str(error)))
        except Exception as error:
            # A mistake, of ours or of who asked: nothing that the store did.
            for one in batch:
                if not one.answer.done():
                    one.answer.set_exception(error)
        else:
            self._heard = self.loop.time()
            contact.answered()
            for one, found in zip(batch, answers.found, strict=True):
                if not one.answer.done():
                    one.answer.set_result(found)
        finally:
            clock.stop()

    def expire(self, batch: Sequence[_Waiting], contact: Contact) -> float | None:
        """Tell those whose time is over; when the next one's is, None where nobody waits any more."""
        now = self.loop.time()
        why = f"{contact.shown} did not answer within {self._timeout:g} s"
        contact.failed(why, _fail([one for one in batch if self._due(one) <= now], why))
        return min((self._due(one) for one in batch if not one.answer.done()), default=None)

    def _due(self, one: _Waiting) -> float:
        """When its time is over, as far as is known now."""
        patient = one.due + (IN_LINE - 1.0) * self._timeout
        return min(patient, max(one.due, self._heard + self._timeout - TELLING))


class _Deadlines:
    """The time of those who share a flight. When all of them have gone, the flight is ended."""

    __slots__ = ("_batch", "_contact", "_line", "_patient", "_task", "_timer", "over")

    def __init__(self, line: Line, batch: Sequence[_Waiting], contact: Contact) -> None:
        self.over = False
        self._contact = contact
        self._line = line
        self._batch = batch
        self._patient = True
        self._task = asyncio.current_task()
        self._timer = line.loop.call_at(batch[0].due, self._ring, batch[0].due)

    def _ring(self, due: float) -> None:
        loop = self._line.loop
        if self._patient and loop.time() > due + GRACE:
            self._patient = False
            self._timer = loop.call_later(GRACE, self._ring, due)
            return
        later = self._line.expire(self._batch, self._contact)
        if later is not None:
            self._timer = loop.call_at(later, self._ring, later)
            return
        self.over = True
        if self._task is not None:
            self._task.cancel()

    def stop(self) -> None:
        self._timer.cancel()


def _batch(waiting: deque[_Waiting]) -> list[_Waiting]:
    """Those who are first, as many as may go together. It takes them out."""
    batch: list[_Waiting] = []
    asks = 0
    while waiting and (not batch or asks + len(waiting[0].call.asks) <= BATCH):
        one = waiting.popleft()
        asks += len(one.call.asks)
        batch.append(one)
    return batch


def _fail(batch: Iterable[_Waiting], why: str) -> int:
    """Tell those who still wait; how many they were."""
    waiting = [one for one in batch if not one.answer.done()]
    for one in waiting:
        one.answer.set_exception(StoreUnavailable(why))
    return len(waiting)
