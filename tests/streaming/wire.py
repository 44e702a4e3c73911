"""One end of a TCP connection with no buffer in between: what is not asked for stays with the kernel.

Clients and upstreams of the streaming tests are both made of it. They read when they are told to and write no more than
the other side takes. Every wait has a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator

PATIENCE = 20.0
"""Seconds that any one wait may take."""
PART = 128 * 1024
"""Bytes read at once."""
ETHERNET = 1460
"""The longest TCP segment over Ethernet."""


class Truncated(Exception):
    """The other end closed before the end of what was read."""


class Wire:
    """A connected socket. One task may read and one write at a time."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._ahead = b""

    async def send(self, data: bytes | memoryview) -> None:
        """Returns once the kernel has taken all of it."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def take(self, most: int = PART) -> bytes:
        """What comes next, b"" at the end. A reset is an end too."""
        if self._ahead:
            data, self._ahead = self._ahead[:most], self._ahead[most:]
            return data
        async with asyncio.timeout(PATIENCE):
            try:
                return await asyncio.get_running_loop().sock_recv(self.sock, most)
            except ConnectionError:
                return b""

    async def until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`. Raises Truncated."""
        held = b""
        while (place := held.find(mark)) < 0:
            data = await self.take()
            if not data:
                raise Truncated(held)
            held += data
        end = place + len(mark)
        self._ahead = held[end:] + self._ahead
        return held[:end]

    async def head(self) -> bytes:
        """A head of a request or a response, with its empty line."""
        return await self.until(b"\r\n\r\n")

    async def parts(self, head: bytes, most: int = PART) -> AsyncIterator[bytes]:
        """The body that follows `head`, as it comes, chunks decoded; trailers are lost. Raises Truncated."""
        lower = head.lower()
        if b"\r\ntransfer-encoding: chunked" in lower:
            while size := int(await self.until(b"\r\n"), 16):
                async for part in self._counted(size, most):
                    yield part
                await self.until(b"\r\n")
            while await self.until(b"\r\n") != b"\r\n":
                pass
        elif b"\r\ncontent-length: " in lower:
            size = int(lower.split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0])
            async for part in self._counted(size, most):
                yield part
        elif lower.startswith(b"http/"):
            while part := await self.take(most):
                yield part

    async def body(self, head: bytes) -> bytes:
        return b"".join([part async for part in self.parts(head)])

    async def _counted(self, size: int, most: int) -> AsyncIterator[bytes]:
        while size:
            part = await self.take(min(size, most))
            if not part:
                raise Truncated(f"{size} bytes are missing")
            size -= len(part)
            yield part

    async def rest(self) -> bytes:
        """Everything until the other end is gone."""
        held = []
        while part := await self.take():
            held.append(part)
        return b"".join(held)

    async def gone(self) -> float:
        """When the other end was gone, on the clock of `time.perf_counter`."""
        while await self.take():
            pass
        return time.perf_counter()

    def close(self) -> None:
        """Leave with a FIN (a RST where something is unread)."""
        self.sock.close()

    def reset(self) -> None:
        """Leave with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Listener:
    """Where an upstream listens. Connections are accepted when the test asks for them, in their order.

    `receive_buffer` and `send_buffer` are what the kernel is asked for (it takes twice that), for each connection.
    """

    def __init__(self, *, receive_buffer: int | None = None, send_buffer: int | None = None) -> None:
        self.sock = socket.socket()
        _size(self.sock, receive_buffer, send_buffer)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(4096)
        self.sock.setblocking(False)
        self.port: int = self.sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.wires: list[Wire] = []

    async def accept(self) -> Wire:
        async with asyncio.timeout(PATIENCE):
            sock, _ = await asyncio.get_running_loop().sock_accept(self.sock)
        wire = Wire(sock)
        self.wires.append(wire)
        return wire

    def clear(self) -> None:
        """Close every connection, those that nobody accepted too."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.sock.accept()[0].close()
        while self.wires:
            self.wires.pop().close()

    def close(self) -> None:
        self.clear()
        self.sock.close()


async def pause(seconds: float) -> None:
    """For seeing that nothing happens."""
    await asyncio.wait((asyncio.get_running_loop().create_future(),), timeout=seconds)


async def connect(port: int, *, receive_buffer: int | None = None, send_buffer: int | None = None) -> Wire:
    sock = socket.socket()
    _size(sock, receive_buffer, send_buffer)
    sock.setblocking(False)
    async with asyncio.timeout(PATIENCE):
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return Wire(sock)


def _size(sock: socket.socket, receive_buffer: int | None, send_buffer: int | None) -> None:
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        # The other side's kernel sizes its buffer by the segment too: on loopback that is 64 KiB, and it takes megabytes.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, ETHERNET)
    if send_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
