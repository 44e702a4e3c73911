"""One HTTP/1.1 connection to an upstream: an asyncio protocol around llhttp's response parser.

It carries one exchange at a time and knows nothing of policies or of header rules. What it must see to: a HEAD response
ends with its head (llhttp never completes one that has a Content-Length), 1xx are consumed, 101 was not asked for, a
body that is delimited by the end of the connection ends there, and one that is not was truncated. Strict framing (both
Content-Length and chunked, doubled lengths, folded lines) is llhttp's own.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import httptools

from gatekit.core.headers import RawHeaders
from gatekit.errors import UpstreamError
from gatekit.upstream.inflow import HIGH_WATER, Inflow
from gatekit.upstream.sweep import Alarm, Sweeper

if TYPE_CHECKING:
    from gatekit.upstream.pool import Pool

MAX_HEAD = 64 * 1024
"""Bytes of a response head, interim responses and trailers each counted in."""


class Connection(Inflow, asyncio.Protocol):
    """A connection that belongs to a pool. `begin`, write the request, read the answer, give it back to the pool."""

    __slots__ = (
        "_corked", "_head_bytes", "_head_only", "_interim", "_keep", "_parser", "_plain", "_pool", "_trailer_bytes", "alarm",
        "busy", "closed", "eof", "idle_since", "opened_at", "received", "request_sent", "reused", "transport", "uploading", "write_paused",
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop, sweeper: Sweeper) -> None:
        super().__init__(loop, sweeper)
        self._pool = pool
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._corked = b""
        self.alarm: Alarm | None = None
        self.idle_since = 0.0
        self.opened_at = 0.0
        self.busy = False
        self.closed = False
        self.eof = False
        self.reused = False
        self.write_paused = False
        self._reset()

    def _reset(self) -> None:
        self._plain = False
        self._head_bytes = 0
        self._trailer_bytes = 0
        self._interim = False
        self._keep = False
        self.received = False
        self.request_sent = False
        self.uploading = False

    def begin(self, *, head_only: bool) -> None:
        """Start an exchange; `head_only` says that the answer has no body whatever it says (HEAD)."""
        self._head_only = head_only
        self.busy = True
        if self.reused:
            self.clear()
            self._reset()

    @property
    def reusable(self) -> bool:
        """Whether another request may follow: this one was sent whole and answered whole, and both agree to go on."""
        return (
            self.ended
            and self._keep
            and self.request_sent
            and not self.write_paused
            and not self.closed
            and not self.eof
        )

    def finish(self) -> None:
        """The exchange is over and the connection idle."""
        self.busy = False
        if self.chunks:
            # The answer is here whole, and its reader left before the end. Reading may have been paused for it: the
            # next exchange would wait for an answer that nobody reads.
            self.chunks = []
            self.buffered = 0
            if self.paused:
                self.paused = False
                self.resume()
        if self._head_only:
            # llhttp waits for the body of a HEAD response: it has to start afresh.
            self._parser = httptools.HttpResponseParser(self)

    def abort(self) -> None:
        """Close at once, whatever is in flight."""
        self.busy = False
        if not self.closed:
            self.transport.abort()

    def shut(self, detail: str) -> None:
        """Close at once and tell whoever waits for the answer."""
        if self.busy and not self.ended:
            self._fail("upstream.closed", detail)
        self.abort()
        self._notify()

    # -- writing

    def cork(self, head: bytes) -> None:
        """Write the head together with what follows in this turn of the loop, or alone at its end."""
        self._corked = head
        self.loop.call_soon(self._uncork)

    def write(self, data: bytes) -> None:
        """Write, after what was corked. What is written to a closed connection is lost; `error` tells."""
        if self._corked:
            data = self._corked + data
            self._corked = b""
        if not self.closed:
            self.transport.write(data)

    async def drain(self, seconds: float) -> None:
        """Wait until the upstream has taken enough, has begun to answer, or is gone."""
        while self.write_paused and not self.began and self.error is None:
            await self.wait(self.sweeper.now() + seconds)

    def _uncork(self) -> None:
        if self._corked and self.busy:
            self.write(b"")
        self._corked = b""

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Both ways, though uvloop's are no subclass of asyncio.Transport.
        self.transport = transport  # type: ignore[assignment]
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if not self.busy or self.ended:
            # Nobody asked for this: whatever it is, it is not the answer to the next request.
            self._keep = False
            if not self.busy:
                self._pool.discard(self)
                self.transport.abort()
            return
        if not self.received:
            self.received = True
            # Asking the parser for the version makes a string. What begins like this and fits a head needs no look.
            self._plain = data.startswith(b"HTTP/1.1 ") and len(data) <= MAX_HEAD
        elif not self.began:
            self._plain = False
        buffered = self.buffered
        parser = self._parser
        assert parser is not None
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._keep = False
            if not self.ended:
                self._fail("upstream.bad_response", f"{error}")
        else:
            if self.buffered != buffered:
                self._head_bytes = 0
            elif not self.ended:
                # A head, or trailers: llhttp keeps a line until its end has come, however long that takes.
                self._head_bytes += len(data)
                if self._head_bytes > (4 * MAX_HEAD if self.began else MAX_HEAD):
                    self._fail("upstream.bad_response", "head or trailers too large")
        if self.error is not None:
            self.transport.abort()
        self._notify()

    def eof_received(self) -> bool:
        self.eof = True
        if not self.busy:
            self._pool.discard(self)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self.busy and not self.ended and self.error is None:
            if self.began and self.eof and exc is None and self._ends_with_connection():
                self.ended = True
            elif self.began:
                self._fail("upstream.truncated", "the connection closed before the end of the body")
            else:
                self._fail("upstream.closed", "the connection closed before an answer came")
        self._notify()
        self._pool.lost(self)
        # The parser holds bound methods of this object: break the cycle.
        self._parser = None

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        self.wake()

    # -- llhttp callbacks. What they raise is wrapped by the parser, so they only take notes.

    def on_message_begin(self) -> None:
        if self.ended:
            self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.ended:
            return
        if not self.began:
            self.headers.append((name.lower(), value))
            return
        self._trailer_bytes += len(name) + len(value) + 4
        if self._trailer_bytes > MAX_HEAD:
            self._fail("upstream.bad_response", "trailers too large")
        else:
            self.trailers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self.ended or self.error is not None:
            return
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._interim = True
            self._plain = False
            self.headers = []
            return
        if not 200 <= status <= 599 or (not self._plain and parser.get_http_version() not in ("1.1", "1.0")):
            self._fail("upstream.bad_response", f"status {status} of HTTP/{parser.get_http_version()}")
            return
        if not self._plain and sum([len(name) + len(value) + 4 for name, value in self.headers]) > MAX_HEAD:
            self._fail("upstream.bad_response", "response head too large")
            return
        self.status = status
        self.began = True
        if self._head_only:
            self.ended = True
            self._keep = parser.get_http_version() == "1.1" and not _asks_to_close(self.headers)

    def on_body(self, body: bytes) -> None:
        if self.ended or self.error is not None:
            self._keep = False
            return
        self.chunks.append(body)
        self.buffered += len(body)
        if self.buffered > HIGH_WATER and not self.paused:
            self.paused = True
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif self.began and not self.ended and self.error is None:
            self.ended = True
            self._keep = self._parser is not None and self._parser.should_keep_alive()

    # -- Inflow

    def resume(self) -> None:
        if not self.closed and not self.transport.is_closing():
            self.transport.resume_reading()

    def expire(self) -> None:
        if self.began:
            self._fail("upstream.idle_timeout", "the body stalled", status=504)
        elif self.uploading:
            self._fail("upstream.idle_timeout", "the upstream stopped taking the request", status=504)
        else:
            self._fail("upstream.timeout", "no response head in time", status=504)
        self.abort()
        self.wake()

    def stop(self, reason: str, detail: str) -> None:
        """Close at once, as the upstream's failure (504)."""
        if not self.ended:
            self._fail(reason, detail, status=504)
            self.abort()
            self.wake()

    def _fail(self, reason: str, detail: str, *, status: int = 502) -> None:
        if self.error is None:
            self.error = UpstreamError(reason, detail, status=status, sent=True, began=self.began)

    def _notify(self) -> None:
        self.wake()
        if self.alarm is not None and (self.began or self.error is not None):
            self.alarm.fire()

    def _ends_with_connection(self) -> bool:
        coding = length = None
        for name, value in self.headers:
            if name == b"transfer-encoding":
                coding = value
            elif name == b"content-length":
                length = value
        if coding is not None:
            return not coding.lower().rstrip().endswith(b"chunked")
        return length is None


def _asks_to_close(headers: RawHeaders) -> bool:
    return any(name == b"connection" and b"close" in value.lower() for name, value in headers)
