"""Sending a request that has a body: streamed as it comes from the client, no faster than the upstream takes it.

An answer that begins early ends it, a client that is too slow or sends too much breaks it off.
"""

from __future__ import annotations

from gatekit.core.door import BODY_GRACE
from gatekit.core.exchange import Exchange
from gatekit.core.plan import ClusterPlan
from gatekit.errors import BodyRefused, UpstreamError
from gatekit.upstream.connection import Connection
from gatekit.upstream.forward import CHUNKED
from gatekit.upstream.sweep import Alarm

IDEMPOTENT = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"})
"""Methods that may be sent twice (RFC 9110 section 9.2.2)."""


def head_timeout(plan: ClusterPlan) -> float:
    """How long the head of an answer may take."""
    return plan.timeout if plan.total_timeout is None else min(plan.timeout, plan.total_timeout)


class Upload:
    """Sends one request that has a body and waits for the head of its answer."""

    __slots__ = ("_body", "_head_timeout", "_length", "_method", "_min_rate", "_plan", "_read", "_waited", "_written")

    def __init__(self, exchange: Exchange, plan: ClusterPlan, length: int) -> None:
        self._body = exchange.body
        self._method = exchange.method
        self._min_rate = exchange.door.min_body_rate
        self._head_timeout = head_timeout(plan)
        self._plan = plan
        self._length = length
        self._read = 0
        self._waited = 0.0
        self._written = False

    @property
    def repeatable(self) -> bool:
        """Whether the request can be sent again and the first try had no effect."""
        if self._read:
            return False
        return self._method in IDEMPOTENT or not self._written

    async def exchange(self, connection: Connection, head: bytes) -> None:
        """Send the request and return once the head of the answer is there. Raises UpstreamError, ClientDisconnected.

        An answer that begins early ends the upload.
        """
        plan = self._plan
        connection.begin(head_only=self._method == "HEAD")
        connection.uploading = True
        data = self._body.data
        if data is None:
            await self._stream(connection, head)
            if connection.began:
                self._body.abandon()
        else:
            self._written = True
            connection.write(head + data)
            await connection.drain(plan.idle_timeout)
            connection.request_sent = True
        connection.uploading = False
        if not connection.began:
            await connection.wait_for_head(self._head_timeout)

    async def _stream(self, connection: Connection, head: bytes) -> None:
        length = self._length
        idle_timeout = self._plan.idle_timeout
        connection.cork(head)
        while not connection.began and connection.error is None:
            data = await self._next_part(connection)
            if data is None:
                return
            if not data:
                break
            self._read += len(data)
            if length != CHUNKED:
                if self._read > length:
                    raise UpstreamError("request.bad_length", "more body than was declared", status=400, sent=True)
                connection.write(data)
            else:
                connection.write(b"%x\r\n%b\r\n" % (len(data), data))
            self._written = True
            # Once more after the last byte: only the end of the body settles that there is no more of it.
            connection.request_sent = self._read == length
            if connection.write_paused:
                await connection.drain(idle_timeout)
        else:
            return
        if length == CHUNKED:
            connection.write(b"0\r\n\r\n")
            connection.request_sent = True
        elif self._read < length:
            raise UpstreamError("request.bad_length", "less body than was declared", status=400, sent=True)

    async def _next_part(self, connection: Connection) -> bytes | None:
        """The client's next part, None when the upstream answered or left instead of waiting for it.

        Only the time that the client is waited for counts against it, not that in which the upstream takes nothing.
        """
        seconds = self._plan.idle_timeout
        if self._min_rate:
            seconds = min(seconds, max(0.0, BODY_GRACE + self._read / self._min_rate - self._waited))
        now = connection.sweeper.now
        began = now()
        try:
            with Alarm(connection.sweeper, seconds) as alarm:
                connection.alarm = alarm
                return await self._body.read()
        except TimeoutError:
            if connection.began or connection.error is not None:
                return None
            raise BodyRefused(408, "body.too_slow") from None
        finally:
            connection.alarm = None
            self._waited += now() - began
