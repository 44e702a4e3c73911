"""Real sockets on loopback, scripted byte by byte, and a clock that only the test moves."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.headers import RawHeaders
from gatekit.core.plan import ClusterPlan, Endpoint
from gatekit.core.ports import Ports
from gatekit.errors import ClientDisconnected
from gatekit.testing import ManualClock, SeededRandom
from gatekit.testing import request as make_request
from gatekit.upstream import Cluster, Pools


class Peer:
    """The upstream's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        """The next request head."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> tuple[bytes, bytes]:
        """The next request: head and whole body, chunks decoded."""
        head = await self.head()
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            body = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
            return head, body
        if b"content-length: " in lower:
            size = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0])
            return head, await self.reader.readexactly(size)
        return head, b""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Until the other end has closed."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Close with a RST."""
        import socket
        import struct

        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Server:
    """A listening socket whose connections run the scripts in order; the last script serves all further ones."""

    def __init__(self, scripts: tuple[Callable[[Peer], Awaitable[None]], ...]) -> None:
        self.scripts = scripts
        self.connections = 0
        self.closed = 0
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.errors: list[BaseException] = []

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        try:
            await script(Peer(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            self.closed += 1
            self.tasks.discard(task)
            writer.transport.abort()


class Body:
    """A request body that comes when the test says so. `put(None)` is the client leaving."""

    def __init__(self, *parts: bytes, length: int | None = None, ended: bool = False) -> None:
        self.data: bytes | None = None
        self.length = length
        self.limit: int | None = None
        self.reads = 0
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        for part in parts:
            self._queue.put_nowait(part)
        if ended:
            self._queue.put_nowait(b"")

    def put(self, part: bytes | None) -> None:
        self._queue.put_nowait(part)

    async def buffer(self, cap: int) -> bytes | None:
        raise NotImplementedError

    def abandon(self) -> None:
        pass

    async def read(self) -> bytes:
        self.reads += 1
        part = await self._queue.get()
        if part is None:
            raise ClientDisconnected("gone")
        if not part:
            self._queue.put_nowait(b"")
        return part


class Session:
    """The client's side, in the hands of the test."""

    def __init__(self, *subprotocols: str) -> None:
        self.subprotocols = list(subprotocols)
        self.accepted: tuple[str | None, RawHeaders] | None = None
        self.denied: tuple[int, RawHeaders, bytes] | None = None
        self.closed: tuple[int, str] | None = None
        self.got: asyncio.Queue[str | bytes] = asyncio.Queue()
        self.code = 1006
        self.room = asyncio.Event()
        self.room.set()
        self.gone = False
        self._sent: asyncio.Queue[str | bytes | None] = asyncio.Queue()

    def say(self, message: str | bytes) -> None:
        self._sent.put_nowait(message)

    def leave(self, code: int) -> None:
        self.code = code
        self._sent.put_nowait(None)

    async def accept(self, subprotocol: str | None, headers: RawHeaders) -> None:
        self.accepted = (subprotocol, headers)

    async def deny(self, head: ResponseHead, body: bytes) -> None:
        self.denied = (head.status, head.raw, body)

    async def receive(self) -> str | bytes | None:
        return await self._sent.get()

    async def send(self, message: str | bytes) -> None:
        if self.gone:
            raise ClientDisconnected("gone")
        await self.room.wait()
        self.got.put_nowait(message)

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    @property
    def close_code(self) -> int:
        return self.code

    @property
    def close_reason(self) -> str:
        return "because"


class World:
    Body = Body
    Session = Session

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.ports = Ports(clock=self.clock, random=SeededRandom())
        self.pools = Pools(now=self.clock.monotonic, interval=0.002)
        self.servers: list[tuple[Server, asyncio.AbstractServer]] = []

    async def serve(
        self,
        *scripts: Callable[[Peer], Awaitable[None]],
        tls: ssl.SSLContext | None = None,
        uds: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> Server:
        server = Server(scripts)
        if uds is not None:
            listener = await asyncio.start_unix_server(server.accept, uds)
        else:
            listener = await asyncio.start_server(server.accept, host, port, ssl=tls)
            server.port = listener.sockets[0].getsockname()[1]
        self.servers.append((server, listener))
        return server

    def plan(self, *servers: Server, **fields: Any) -> ClusterPlan:
        fields.setdefault("endpoints", tuple(Endpoint("127.0.0.1", server.port) for server in servers))
        return ClusterPlan(fields.pop("name", "c"), **fields)

    def cluster(self, *servers: Server, **fields: Any) -> Cluster:
        return Cluster(self.plan(*servers, **fields), self.ports, self.pools)

    def pool(self, cluster: Cluster, place: int = 0) -> Any:
        return self.pools.get(asyncio.get_running_loop(), cluster.plan, cluster.plan.endpoints[place])

    def request(self, *args: Any, stream: Any = None, **fields: Any) -> Exchange:
        exchange = make_request(*args, **fields)
        if stream is not None:
            exchange.body = stream
        return exchange

    async def body(self, response: Any) -> bytes:
        """The whole body, read as a driver does."""
        parts = []
        while True:
            part, last = response.take()
            if not part and not last:
                part = await response.read()
                last = not part
            parts.append(part)
            if last:
                return b"".join(parts)

    async def get(self, destination: Any, *args: Any, **fields: Any) -> tuple[Any, bytes]:
        """One whole exchange, closed: the response and its body."""
        response = await destination.open(self.request(*args, **fields))
        try:
            return response, await self.body(response)
        finally:
            response.close()

    async def settle(self, turns: int = 3) -> None:
        """Let the loop turn, and sockets be looked at."""
        loop = asyncio.get_running_loop()
        for _ in range(turns):
            future = loop.create_future()
            loop.call_soon(future.set_result, None)
            await future

    async def until(self, condition: Callable[[], bool]) -> None:
        """Until it holds. What it waits for is on its way over loopback."""
        loop = asyncio.get_running_loop()
        end = loop.time() + 5
        while not condition():
            assert loop.time() < end, "it never came true"
            future = loop.create_future()
            loop.call_later(0.001, future.set_result, None)
            await future

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        sweeper = self.pools.on(loop).sweeper
        self.pools.close_loop(loop)
        assert not sweeper.running
        assert not sweeper.watched
        for server, listener in self.servers:
            listener.close()
            for task in tuple(server.tasks):
                task.cancel()
        await self.until(lambda: not any(server.tasks for server, _ in self.servers))
        await self.settle()
        for server, _ in self.servers:
            assert not server.errors, server.errors
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, left


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    """Servers, pools and a clock; whatever is left of them at the end fails the test."""
    made = World()
    yield made
    await made.close()


@pytest.fixture
def make_world() -> type[World]:
    """For tests that bring a loop of their own; they close what they make."""
    return World
