"""What a streaming test plays with: clients on one side of a served gateway, upstreams on the other.

Neither pytest nor gatekit is imported here: the bench uses it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import zlib
from collections.abc import Iterable, Iterator, Mapping
from random import Random
from typing import Any

from tests.streaming.process import MIB, Server
from tests.streaming.wire import PATIENCE, Listener, Wire, connect

NARROW = 16 * 1024
"""The socket buffers, in bytes, of connections on which the kernel may keep little."""
PIECE = 64 * 1024 - 13
"""Bytes written at once: no buffer's size is a multiple of it."""
STALL = 0.2
"""Seconds without progress after which a sender counts as held up."""
_PATTERN = Random(7).randbytes(MIB + PIECE)


class Upstreams:
    """Where the gateway's clusters are. Nobody listens at `dead`."""

    def __init__(self) -> None:
        self.wide = Listener()
        self.narrow = Listener(receive_buffer=NARROW, send_buffer=NARROW)
        self.sockets = Listener()
        self._dead = socket.socket()
        self._dead.bind(("127.0.0.1", 0))

    @property
    def urls(self) -> Mapping[str, str]:
        return {
            "WIDE": self.wide.url,
            "NARROW": self.narrow.url,
            "SOCKETS": self.sockets.url,
            "DEAD": f"http://127.0.0.1:{self._dead.getsockname()[1]}",
        }

    def clear(self) -> None:
        for listener in (self.wide, self.narrow, self.sockets):
            listener.clear()

    def close(self) -> None:
        for listener in (self.wide, self.narrow, self.sockets):
            listener.close()
        self._dead.close()


class Scene:
    """One gateway, its upstreams, and clients that carry the same key."""

    def __init__(self, server: Server, upstreams: Upstreams, key: str) -> None:
        self.server = server
        self.wide = upstreams.wide
        self.narrow = upstreams.narrow
        self.sockets = upstreams.sockets
        self.key = key
        self._upstreams = upstreams
        self._clients: list[Wire] = []
        self._logged = server.log.stat().st_size
        upstreams.clear()

    async def client(self, *, buffer: int | None = None) -> Wire:
        """A connected client, with socket buffers of that many bytes."""
        wire = await connect(self.server.port, receive_buffer=buffer, send_buffer=buffer)
        self._clients.append(wire)
        return wire

    def request(self, line: str, *fields: str) -> bytes:
        """A request head: `GET /path` and header lines."""
        lines = (f"{line} HTTP/1.1", "host: shop.test", f"x-key: {self.key}", *fields)
        return "\r\n".join((*lines, "", "")).encode()

    async def ends(self, count: int) -> list[list[Any]]:
        """How that many exchanges ended: status, fault, reason, complete."""
        ends: list[list[Any]] = await asyncio.to_thread(self.server.told, f"{self.key}?{count}")
        return ends

    @property
    def log(self) -> str:
        """What the server has logged since the scene was set."""
        return self.server.log.read_bytes()[self._logged :].decode(errors="replace")

    def close(self) -> None:
        while self._clients:
            self._clients.pop().close()
        self._upstreams.clear()


class Tally:
    """How many bytes there were, and which."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0

    def add(self, part: bytes | memoryview) -> None:
        self.count += len(part)
        self.sum = zlib.crc32(part, self.sum)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tally) and (self.count, self.sum) == (other.count, other.sum)

    def __hash__(self) -> int:
        return hash((self.count, self.sum))

    def __repr__(self) -> str:
        return f"Tally({self.count}, {self.sum:08x})"


def pieces(size: int) -> Iterator[memoryview]:
    """`size` bytes in pieces. They differ from one to the next, so that a lost or doubled one shows."""
    pattern = memoryview(_PATTERN)
    place = 0
    while size:
        count = min(PIECE, size)
        yield pattern[place : place + count]
        size -= count
        place = (place + PIECE) % MIB


def expected(size: int) -> Tally:
    tally = Tally()
    for piece in pieces(size):
        tally.add(piece)
    return tally


def framing(size: int, *, chunked: bool) -> str:
    """The header line that says how long a body is."""
    return "transfer-encoding: chunked" if chunked else f"content-length: {size}"


def framed(data: Iterable[memoryview], *, chunked: bool) -> Iterator[bytes | memoryview]:
    """The pieces as they go over the wire."""
    for piece in data:
        yield b"".join((b"%x\r\n" % len(piece), piece, b"\r\n")) if chunked else piece
    if chunked:
        yield b"0\r\n\r\n"


async def send_body(wire: Wire, size: int, *, chunked: bool = False) -> Tally:
    """Write `size` bytes as fast as they are taken."""
    for data in framed(pieces(size), chunked=chunked):
        await wire.send(data)
    return expected(size)


async def read_body(wire: Wire, head: bytes) -> Tally:
    tally = Tally()
    async for part in wire.parts(head):
        tally.add(part)
    return tally


async def download(scene: Scene, size: int, *, chunked: bool) -> tuple[Tally, Tally]:
    """Bring `size` bytes from the upstream to the client: what was sent, what came."""
    client = await scene.client()
    await client.send(scene.request("GET /download"))
    upstream = await scene.wide.accept()
    await upstream.head()
    await upstream.send(f"HTTP/1.1 200 OK\r\n{framing(size, chunked=chunked)}\r\n\r\n".encode())
    sending = asyncio.create_task(send_body(upstream, size, chunked=chunked))
    came = await read_body(client, await client.head())
    sent = await sending
    client.close()
    upstream.close()
    return sent, came


async def upload(scene: Scene, size: int, *, chunked: bool) -> tuple[Tally, Tally]:
    """Bring `size` bytes from the client to the upstream: what was sent, what came."""
    client = await scene.client()
    await client.send(scene.request("POST /upload", framing(size, chunked=chunked)))
    sending = asyncio.create_task(send_body(client, size, chunked=chunked))
    upstream = await scene.wide.accept()
    came = await read_body(upstream, await upstream.head())
    sent = await sending
    await upstream.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert (await client.head()).startswith(b"HTTP/1.1 204 ")
    client.close()
    upstream.close()
    return sent, came


class Flood:
    """Writes pieces for as long as they are taken, and counts them."""

    def __init__(self, wire: Wire, size: int, *, chunked: bool = False) -> None:
        self.sent = 0
        self.size = size
        self._wire = wire
        self._chunked = chunked
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        for data in framed(pieces(self.size), chunked=self._chunked):
            await asyncio.get_running_loop().sock_sendall(self._wire.sock, data)
            self.sent += len(data)

    async def stalled(self, seconds: float = STALL) -> int:
        """Bytes written, once nothing has been taken for so long. Fails when all of it was taken."""
        before = -1
        while self.sent != before:
            before = self.sent
            done, _ = await asyncio.wait((self._task,), timeout=seconds)
            assert not done, "everything was taken: nobody held the sender up"
        return self.sent

    async def done(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._task

    async def stop(self) -> None:
        """Send no more, whether or not anybody is still there."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await self._task
