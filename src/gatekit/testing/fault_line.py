"""One connection through the fault proxy: two ends, the bytes that go each way, and where they are interfered with.

It passes bytes as they come and knows no protocol above TCP. It never reads more than it can pass on: an end that takes
nothing holds up the other one.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Direction = Literal["request", "response"]
"""Which way bytes go: from the client to the upstream, or back."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Broken(Exception):
    """An end is gone, or is to be cut: nothing passes any more."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is done to a connection when `after` bytes have passed in `direction`.

    It is done as soon as the last of them has been handed on. With 0 it is done when the first byte comes, before that
    byte passes. An end that stops sending before that point is spared.
    """

    direction: Direction
    after: int = 0

    def __post_init__(self) -> None:
        if self.direction not in ("request", "response"):
            raise ValueError(f"a direction is 'request' or 'response', not {self.direction!r}")
        if self.after < 0:
            raise ValueError("a fault comes after a number of bytes: 0 or more")

    async def act(self, flow: Flow) -> None:
        """Do it. Raises Broken when the connection is to be cut."""
        raise NotImplementedError

    def altered(self, data: bytes, at: int) -> bytes:
        """What goes on instead of `data`, whose first byte is number `at` of its direction. Same length."""
        return data


@dataclass(slots=True)
class Carried:
    """What one connection has come to: how many bytes were handed on each way, how many faults were done, and whether it
    has ended."""

    request: int = 0
    response: int = 0
    faults_done: int = 0
    ended: bool = False


class End(asyncio.Protocol):
    """One end of a proxied connection. It is read only while somebody waits for its bytes, a piece ahead at most."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self._buffer = bytearray()
        self._ended = False
        self._fed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None

    # -- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # Written is what the kernel has taken: points are exact, and an end that is full is felt at once.
        transport.set_write_buffer_limits(0)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._buffer += data
        self._transport.pause_reading()
        self._fed.set()

    def eof_received(self) -> bool:
        self._ended = True
        self._fed.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        self._fed.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # -- reading

    async def more(self) -> bool:
        """Wait for a byte; False once this end has stopped sending. Raises Broken."""
        assert self._transport is not None
        while not self._buffer:
            if self.gone.is_set():
                raise Broken
            if self._ended:
                return False
            self._fed.clear()
            self._transport.resume_reading()
            await self._fed.wait()
        return True

    async def read(self, size: int | None) -> bytes:
        """What has come, at most `size` bytes, waiting for the first; b"" at the end. Raises Broken."""
        await self.more()
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    # -- writing

    async def write(self, data: bytes) -> None:
        """Write and wait until the kernel has taken all of it. Raises Broken."""
        assert self._transport is not None
        if not self.gone.is_set():
            self._transport.write(data)
            await self._writable.wait()
        if self.gone.is_set():
            raise Broken

    def finish(self) -> None:
        """Send a FIN. This end may go on sending. Raises Broken."""
        assert self._transport is not None
        try:
            self._transport.write_eof()
        except OSError as error:
            raise Broken from error

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()

    def reset(self) -> None:
        """Cut the connection with a RST."""
        assert self._transport is not None
        if not self.gone.is_set():
            reset_on_close(self._transport.get_extra_info("socket"))
            self._transport.abort()


class Flow:
    """The bytes that go one way. `back` is the other way of the same connection.

    `open` is cleared while nothing may pass; `dropping` says that what still comes goes nowhere. `piece` is the most
    that is handed on at a time, None for all there is, and `permit` is asked for before each.
    """

    back: Flow

    def __init__(self, line: Line, direction: Direction, source: End, sink: End, faults: Sequence[Fault]) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.dropping = False
        self.piece: int | None = None
        self.permit: asyncio.Semaphore | None = None
        self._line = line
        self._direction: Direction = direction
        self._source = source
        self._sink = sink
        self._faults = sorted((fault for fault in faults if fault.direction == direction), key=lambda one: one.after)
        self._passed = 0

    async def run(self) -> None:
        """Pass what comes, do each fault at its point, and pass the FIN. Raises Broken."""
        for fault in self._faults:
            if not await self._pass(fault.after):
                break
            self._line.acted()
            await fault.act(self)
        else:
            await self._pass(None)
        await self.open.wait()
        self.finish()

    def finish(self) -> None:
        """Send the receiver a FIN; whatever still comes goes nowhere. Raises Broken."""
        self.dropping = True
        self._sink.finish()

    async def _pass(self, point: int | None) -> bool:
        """Pass what comes up to `point`, None for everything. False if the sender stopped before."""
        if point == 0:
            return await self._source.more()
        while point is None or self._passed < point:
            await self.open.wait()
            data = await self._source.read(_least(self.piece, None if point is None else point - self._passed))
            if not data:
                return False
            await self._hand_on(data)
        return True

    async def _hand_on(self, data: bytes) -> None:
        if self.piece is not None:
            # Whoever reads gets what went before as a piece of its own.
            await _turn()
        if self.permit is not None:
            await self.permit.acquire()
        await self.open.wait()
        if self.dropping:
            return
        for fault in self._faults:
            data = fault.altered(data, self._passed)
        await self._sink.write(data)
        self._passed += len(data)
        self._line.count(self._direction, len(data))


class Line:
    """A proxied connection, from its accept on. `changed` is called whenever something happened on it."""

    def __init__(self, accepted: socket.socket, changed: Callable[[], None]) -> None:
        self.carried = Carried()
        self._accepted = accepted
        self._changed = changed
        self._flows: tuple[Flow, ...] = ()

    async def run(self, host: str, port: int, faults: Sequence[Fault]) -> None:
        """Carry bytes between the client and that upstream until both have stopped sending, or one is gone."""
        loop = asyncio.get_running_loop()
        ends: list[End] = []
        running: list[asyncio.Task[None]] = []
        whole = False
        try:
            _, client = await loop.connect_accepted_socket(End, self._accepted)
            ends.append(client)
            _, upstream = await loop.create_connection(End, host, port)
            ends.append(upstream)
            self._join(client, upstream, faults)
            running += [loop.create_task(flow.run()) for flow in self._flows]
            await asyncio.gather(*running)
            whole = True
        except (Broken, OSError):
            pass
        finally:
            for task in running:
                task.cancel()
            for end in ends:
                if whole:
                    end.close()
                else:
                    end.reset()
            await asyncio.gather(*running, *[end.gone.wait() for end in ends], return_exceptions=True)

    def refuse(self) -> None:
        """Cut the client's connection with a RST; there is none to the upstream yet."""
        reset_on_close(self._accepted)
        self._accepted.close()

    def over(self) -> None:
        """It has ended, or was never begun."""
        self._accepted.close()
        self.carried.ended = True
        self._changed()

    def _join(self, client: End, upstream: End, faults: Sequence[Fault]) -> None:
        request = Flow(self, "request", client, upstream, faults)
        response = Flow(self, "response", upstream, client, faults)
        request.back, response.back = response, request
        self._flows = (request, response)

    def release(self) -> None:
        """Let pass what is stalled."""
        for flow in self._flows:
            flow.open.set()

    def acted(self) -> None:
        self.carried.faults_done += 1
        self._changed()

    def count(self, direction: Direction, size: int) -> None:
        if direction == "request":
            self.carried.request += size
        else:
            self.carried.response += size
        self._changed()


def reset_on_close(sock: socket.socket) -> None:
    """Closing it will be a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def _least(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


async def _turn() -> None:
    """Let the event loop turn once."""
    loop = asyncio.get_running_loop()
    turned: asyncio.Future[None] = loop.create_future()
    loop.call_soon(turned.set_result, None)
    await turned
