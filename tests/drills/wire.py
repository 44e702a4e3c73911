"""A client and an upstream in the hands of a test, with the fault proxy between them, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gatekit.testing.faults import Direction, FaultProxy, Script


class Peer(asyncio.Protocol):
    """One end in the hands of the test: what it got, piece by piece, and how the line ended for it."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.fin = False
        self.lost = False
        self.error: Exception | None = None
        self.transport: asyncio.Transport
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        self._changed.set()

    def eof_received(self) -> bool:
        self.fin = True
        self._changed.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.error = exc
        self._changed.set()

    def resume_writing(self) -> None:
        self._changed.set()

    @property
    def got(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def reset(self) -> bool:
        return isinstance(self.error, ConnectionResetError)

    @property
    def unsent(self) -> int:
        return self.transport.get_write_buffer_size()

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    async def until(self, condition: Callable[[Peer], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()


class Wire:
    """A client and an upstream with the proxy between them."""

    def __init__(self, proxy: FaultProxy, upstreams: asyncio.Queue[Peer], peers: list[Peer]) -> None:
        self.proxy = proxy
        self._upstreams = upstreams
        self._peers = peers

    async def client(self) -> Peer:
        loop = asyncio.get_running_loop()
        _, peer = await loop.create_connection(Peer, "127.0.0.1", self.proxy.port)
        self._peers.append(peer)
        return peer

    async def connect(self) -> tuple[Peer, Peer]:
        """A connection through the proxy: the client's end and the upstream's."""
        client = await self.client()
        async with asyncio.timeout(5):
            return client, await self._upstreams.get()

    async def between(self, direction: Direction) -> tuple[Peer, Peer]:
        """The same, as who sends in that direction and who receives."""
        client, upstream = await self.connect()
        return (client, upstream) if direction == "request" else (upstream, client)


@asynccontextmanager
async def wire(*faults: Script) -> AsyncIterator[Wire]:
    loop = asyncio.get_running_loop()
    upstreams: asyncio.Queue[Peer] = asyncio.Queue()
    peers: list[Peer] = []

    class Accepted(Peer):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            peers.append(self)
            upstreams.put_nowait(self)

    server = await loop.create_server(Accepted, "127.0.0.1", 0)
    try:
        async with FaultProxy(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", *faults) as proxy:
            yield Wire(proxy, upstreams, peers)
    finally:
        server.close()
        for peer in peers:
            peer.transport.abort()
            await peer.until(lambda peer: peer.lost)
        assert len(asyncio.all_tasks()) == 1


async def settle(turns: int = 20) -> None:
    """Let the loop turn, and sockets be looked at."""
    loop = asyncio.get_running_loop()
    for _ in range(turns):
        turned = loop.create_future()
        loop.call_soon(turned.set_result, None)
        await turned
