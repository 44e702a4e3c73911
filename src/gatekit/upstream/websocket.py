"""A WebSocket over a cluster: `websockets`' sans-IO client on one side, the driver's session on the other.

Messages go both ways whole, with backpressure; close codes are passed on. Ping and pong are each hop's own. No
extension is offered, so nothing is compressed twice. The connection is the session's own: it never comes from a pool
and is counted in `max_websockets`, not in `max_connections`.
"""

from __future__ import annotations

import asyncio
from collections import deque

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response as HandshakeResponse
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from gatekit.core.destination import WebSocketSession
from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.headers import RawHeaders
from gatekit.core.plan import ClusterPlan
from gatekit.errors import ClientDisconnected, UpstreamError
from gatekit.upstream.dial import Target, dial
from gatekit.upstream.forward import request_target, response_headers, upgrade_headers, websocket_headers
from gatekit.upstream.inflow import HIGH_WATER
from gatekit.upstream.sweep import Sweeper

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of one message; a longer one ends the session with code 1009."""
CLOSE_TIMEOUT = 2.0
"""Seconds the upstream has to answer a close."""

# Host and path are replaced before the request is sent: the library wants to see some URI.
_URI = parse_uri("ws://gatekit.invalid/")
_NO_STATUS = 1005


class Link(asyncio.Protocol):
    """The upstream's side of a session. `receive` and `send` may be used by one task each."""

    transport: asyncio.Transport

    def __init__(self, protocol: ClientProtocol, loop: asyncio.AbstractEventLoop, sweeper: Sweeper) -> None:
        self._protocol = protocol
        self._loop = loop
        self._sweeper = sweeper
        self._messages: deque[str | bytes] = deque()
        self._buffered = 0
        self._parts: list[bytes] = []
        self._text = False
        self._reading: asyncio.Future[None] | None = None
        self._writing: asyncio.Future[None] | None = None
        self._paused = False
        self._write_paused = False
        self._lost = False
        self.idle = False
        self.response: HandshakeResponse | None = None
        self.deadline = float("inf")
        self.idle_timeout = float("inf")

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Both ways, though uvloop's are no subclass of asyncio.Transport.
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._touch()
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, HandshakeResponse):
                self.response = event
            elif isinstance(event, Frame):
                self._frame(event)
        self.flush()
        if self._buffered > HIGH_WATER and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        _wake(self._reading)

    def eof_received(self) -> bool:
        self._protocol.receive_eof()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._protocol.receive_eof()
        _wake(self._reading)
        _wake(self._writing)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        _wake(self._writing)

    # -- the session's use of it

    async def handshake(self, seconds: float) -> None:
        """Wait for the answer to the handshake. Raises UpstreamError when none comes."""
        self.deadline = self._sweeper.now() + seconds
        self._sweeper.watch(self)
        while self.response is None and self._protocol.handshake_exc is None and not self._lost:
            await self._wait_reading()
        if self.response is None:
            if self.idle:
                raise UpstreamError("upstream.timeout", "no answer to the handshake", status=504, sent=True)
            if self._protocol.handshake_exc is None or isinstance(self._protocol.handshake_exc.__cause__, EOFError):
                raise UpstreamError("upstream.closed", "closed during the handshake", sent=True)
            raise UpstreamError("upstream.bad_response", f"{self._protocol.handshake_exc}", sent=True)

    async def receive(self) -> str | bytes | None:
        """The upstream's next message, None once it has closed or gone."""
        while not self._messages:
            if self._lost or self._protocol.state is not State.OPEN:
                return None
            await self._wait_reading()
        message = self._messages.popleft()
        self._buffered -= len(message)
        if self._paused and self._buffered <= HIGH_WATER // 2:
            self._paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()
        return message

    async def send(self, message: str | bytes) -> None:
        """Pass a message on; one for an upstream that is closing is lost, as it would be on the wire."""
        self._touch()
        if self._protocol.state is not State.OPEN:
            return
        if isinstance(message, str):
            self._protocol.send_text(message.encode("utf-8"))
        else:
            self._protocol.send_binary(message)
        self.flush()
        while self._write_paused and not self._lost:
            self._writing = self._loop.create_future()
            try:
                await self._writing
            finally:
                self._writing = None

    async def close(self, code: int, reason: str) -> None:
        """Close with this code and wait a little for the answer."""
        if self._protocol.state is State.OPEN:
            if code == _NO_STATUS:
                self._protocol.send_close()
            else:
                self._protocol.send_close(code if _sendable(code) else CloseCode.GOING_AWAY, reason)
            self.flush()
        self.idle_timeout = CLOSE_TIMEOUT
        self._touch()
        while not self._lost and self._protocol.close_rcvd is None:
            await self._wait_reading()

    @property
    def ending(self) -> tuple[int, str]:
        """The code and reason the client is told: the upstream's own, 1014 (bad gateway) when it just went away."""
        received = self._protocol.close_rcvd
        if self.idle:
            return CloseCode.GOING_AWAY, "idle"
        if received is None:
            sent = self._protocol.close_sent
            return (CloseCode.BAD_GATEWAY, "") if sent is None else (sent.code, sent.reason)
        if received.code == _NO_STATUS:
            return CloseCode.NORMAL_CLOSURE, ""
        return received.code, received.reason

    def flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data and not self._lost:
                self.transport.write(data)

    def abort(self) -> None:
        self._sweeper.forget(self)
        if not self._lost:
            self.transport.abort()

    def expire(self) -> None:
        self.idle = True
        self.abort()

    def _touch(self) -> None:
        self.deadline = self._sweeper.now() + self.idle_timeout

    async def _wait_reading(self) -> None:
        self._reading = self._loop.create_future()
        try:
            await self._reading
        finally:
            self._reading = None

    def _frame(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._text = frame.opcode is Opcode.TEXT
            self._parts = [bytes(frame.data)]
        elif frame.opcode is Opcode.CONT:
            self._parts.append(bytes(frame.data))
        else:
            return
        if not frame.fin:
            return
        data = b"".join(self._parts)
        self._parts = []
        message: str | bytes = data
        if self._text:
            try:
                message = data.decode("utf-8")
            except UnicodeDecodeError:
                self._protocol.fail(CloseCode.INVALID_DATA, "not UTF-8")
                return
        self._messages.append(message)
        self._buffered += len(message)


class Tunnel:
    """Carries one session to one endpoint."""

    __slots__ = ("_host", "_plan", "_sweeper", "_target")

    def __init__(self, target: Target, host: bytes, plan: ClusterPlan, sweeper: Sweeper) -> None:
        self._target = target
        self._host = host
        self._plan = plan
        self._sweeper = sweeper

    async def carry(self, exchange: Exchange, session: WebSocketSession) -> None:
        """Raises UpstreamError until the client has been answered, nothing after that."""
        loop = asyncio.get_running_loop()
        offered = [Subprotocol(name) for name in session.subprotocols]
        protocol = ClientProtocol(_URI, subprotocols=offered or None, max_size=MAX_MESSAGE)
        link = await dial(self._target, lambda: Link(protocol, loop, self._sweeper), self._sweeper)
        try:
            self._request(protocol, exchange)
            link.flush()
            await link.handshake(self._plan.timeout)
            assert link.response is not None
            if protocol.handshake_exc is not None:
                await self._refuse(protocol.handshake_exc, link.response, session)
                return
            link.idle_timeout = self._plan.websocket_idle_timeout
            link.deadline = self._sweeper.now() + link.idle_timeout
            await session.accept(protocol.subprotocol, upgrade_headers(_raw(link.response)))
            await self._both_ways(link, session)
        finally:
            link.abort()

    def _request(self, protocol: ClientProtocol, exchange: Exchange) -> None:
        request = protocol.connect()
        request.path = request_target(exchange).decode("ascii")
        del request.headers["Host"]
        for name, value in websocket_headers(exchange, self._host):
            request.headers[name.decode("ascii")] = value.decode("latin-1")
        protocol.send_request(request)

    async def _refuse(self, error: Exception, response: HandshakeResponse, session: WebSocketSession) -> None:
        """Pass on what the upstream said instead of 101; a 101 that is none is a broken upstream."""
        if not isinstance(error, InvalidStatus):
            raise UpstreamError("upstream.bad_response", f"{error}", sent=True)
        body = bytes(response.body)
        headers = [
            pair for pair in response_headers(response.status_code, _raw(response)) if pair[0] != b"content-length"
        ]
        headers.append((b"content-length", b"%d" % len(body)))
        await session.deny(ResponseHead(response.status_code, headers), body)

    async def _both_ways(self, link: Link, session: WebSocketSession) -> None:
        loop = asyncio.get_running_loop()
        up = loop.create_task(self._up(link, session))
        down = loop.create_task(self._down(link, session))
        try:
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
            down.cancel()
            ends = await asyncio.gather(up, down, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, ClientDisconnected):
                raise end
        if ends[0] is True or any(isinstance(end, ClientDisconnected) for end in ends):
            await link.close(session.close_code, session.close_reason)
        else:
            await session.close(*link.ending)

    async def _up(self, link: Link, session: WebSocketSession) -> bool:
        """True once the client has left."""
        while (message := await session.receive()) is not None:
            await link.send(message)
        return True

    async def _down(self, link: Link, session: WebSocketSession) -> None:
        while (message := await link.receive()) is not None:
            await session.send(message)


def _raw(response: HandshakeResponse) -> RawHeaders:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.raw_items()]


def _sendable(code: int) -> bool:
    return code in (1000, 1001, 1002, 1003) or 1007 <= code <= 1014 or 3000 <= code < 5000


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
