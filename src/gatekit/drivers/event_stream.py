"""Server-sent events that pass through: relayed as they come, and ended between two events when a drain asks for it.

A stream is never ended inside an event: whoever reads it would take half of one for whole, or lose it without knowing.
Source: WHATWG HTML section 9.2.6 (lines end in LF, CR or CRLF, an empty line ends the event, `:` begins a comment).
"""

from __future__ import annotations

import asyncio

from gatekit.core.destination import Response
from gatekit.drivers.answer import Answer
from gatekit.drivers.flights import DRAINING, RESTARTING

COMMENT = f": {RESTARTING}\n\n".encode()
"""The last that the client of an ended stream gets."""
_BLANK = (b"\n\n", b"\r\r", b"\n\r\n", b"\r\r\n")
_LONGEST = max(map(len, _BLANK))


class Boundary:
    """Where an event stream stands: `here` says that what has passed ends in an empty line, or that nothing has passed.

    A CR after a LF does not count, though it ends an empty line: it may be the first half of a CRLF.
    """

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b"\n\n"

    @property
    def here(self) -> bool:
        return self._tail.endswith(_BLANK)

    def add(self, part: bytes) -> None:
        """This has passed."""
        self._tail = part[-_LONGEST:] if len(part) >= _LONGEST else (self._tail + part)[-_LONGEST:]

    def last_in(self, part: bytes) -> int:
        """How much of `part`, which is to come next, can pass so that a boundary is reached; 0 if there is none in it."""
        text = self._tail + part
        ends = (place + len(blank) for blank in _BLANK if (place := text.rfind(blank)) >= 0)
        return max(0, max(ends, default=0) - len(self._tail))


class EventRelay:
    """`drivers.flights.Stream` over a destination's event stream."""

    __slots__ = ("_boundary", "_cancelled", "_ending", "_out", "_response", "_waiting", "ended")

    def __init__(self, out: Answer, response: Response) -> None:
        self._out = out
        self._response = response
        self._boundary = Boundary()
        self._ending = False
        self._cancelled = False
        self._waiting = False
        self.ended = False

    def end(self) -> bool:
        """Between two events: now. Else at the next boundary that comes."""
        if self.ended or self._cancelled:
            return False
        self._ending = True
        task = self._out.task
        if not self._waiting or not self._boundary.here or task is None:
            return False
        self._cancelled = True
        task.cancel()
        return True

    async def relay(self, part: bytes, last: bool) -> None:
        """Send the stream, of which `part` is the first, to its end or to where it is to be ended."""
        boundary = self._boundary
        while True:
            if not part and not last:
                following = await self._next()
                if following is None:
                    break
                part = following
                last = not part
            if self._ending and not last:
                part = part[: boundary.last_in(part)] or part
            boundary.add(part)
            await self._send(part, last)
            if last:
                return
            if self._ending and boundary.here:
                break
            part, last = self._response.take()
        self._out.exchange.reason = DRAINING
        await self._send(COMMENT, True)
        self.ended = True

    async def _next(self) -> bytes | None:
        """What comes next; None once the stream is to be ended where it stands."""
        self._waiting = True
        try:
            return await self._response.read()
        except asyncio.CancelledError:
            task = self._out.task
            if not self._cancelled or task is None or task.uncancel():
                raise
            return None
        finally:
            self._waiting = False

    async def _send(self, part: bytes, last: bool) -> None:
        out = self._out
        if out.filters:
            part = out.filtered(part, last)
        if part or last:
            out.exchange.sent += len(part)
            await out.send({"type": "http.response.body", "body": part, "more_body": not last})
