"""httpcore's network interface over the guarded dialer: every connection that httpcore opens goes through the rules.

The whole call has one timeout, set where it begins; httpcore is given none, so the timeouts of this interface are
always None and are not looked at.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, Final

import httpcore

from gatekit.clients.dial import GuardedDialer

READ_AHEAD: Final = 65536
"""Bytes that may wait to be read before the peer is made to wait."""


class Wire(asyncio.Protocol):
    """One connection, for one reader and writer at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.ended = False
        self.received = bytearray()
        self._error: Exception | None = None
        self._paused = False
        self._full = False
        self._turn: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        if len(self.received) >= READ_AHEAD and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self.ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self._error = exc
        self._wake()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._wake()

    async def read(self, size: int) -> bytes:
        """What has come, empty at the end. Raises OSError when the connection broke."""
        while not self.received and not self.ended:
            await self._change()
        if not self.received and self._error is not None:
            raise self._error
        data = bytes(self.received[:size])
        del self.received[:size]
        if self._paused and len(self.received) < READ_AHEAD:
            self._paused = False
            if not self.ended:
                self.transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Returns when the peer has taken most of it. Raises OSError when it can take no more."""
        if not self.ended:
            self.transport.write(data)
        while self._full and not self.ended:
            await self._change()
        if self.ended:
            raise self._error or ConnectionResetError("closed by the peer")

    async def _change(self) -> None:
        self._turn = asyncio.get_running_loop().create_future()
        await self._turn

    def _wake(self) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)


class WireStream(httpcore.AsyncNetworkStream):
    """A wire as httpcore reads and writes it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return await self._wire.read(max_bytes)
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            await self._wire.write(buffer)
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        # Nothing is left to be sent, so nothing is waited for; the socket is gone one turn of the loop later.
        self._wire.transport.abort()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        wire = self._wire
        if wire.received:
            # In the clear, and so from anybody on the way: it must not pass for the first bytes of the answer.
            wire.transport.abort()
            raise httpcore.ConnectError("the peer spoke before the TLS handshake")
        try:
            transport = await asyncio.get_running_loop().start_tls(
                wire.transport, wire, ssl_context, server_hostname=server_hostname
            )
        except BaseException as error:
            wire.transport.abort()
            if isinstance(error, OSError):
                raise httpcore.ConnectError(str(error)) from error
            raise
        if transport is None:
            raise httpcore.ConnectError("closed by the peer during the TLS handshake")
        wire.transport = transport
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            # httpcore asks this of idle connections: bytes nobody asked for are as bad as an end.
            return bool(self._wire.received) or self._wire.ended
        return self._wire.transport.get_extra_info(info)


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """How httpcore connects: through the dialer, or not at all."""

    def __init__(self, dialer: GuardedDialer) -> None:
        self._dialer = dialer

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        _, wire = await self._dialer.connect(Wire, host, port)
        return WireStream(wire)
